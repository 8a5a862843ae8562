# What is installed beside the programs, and the Debian package: `cpack` in a build directory of type Release.
set(here ${CMAKE_CURRENT_LIST_DIR})
set(docs ${CMAKE_INSTALL_DATADIR}/doc/triggerd)
set(units lib/systemd/system) # not CMAKE_INSTALL_LIBDIR: systemd looks here whatever the machine
install(FILES ${here}/triggerd.service ${here}/triggerd-mount.service DESTINATION ${units})
install(FILES ${here}/sysusers.conf DESTINATION lib/sysusers.d RENAME triggerd.conf)
install(FILES ${here}/tmpfiles.conf DESTINATION lib/tmpfiles.d RENAME triggerd.conf)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/schemas DESTINATION ${CMAKE_INSTALL_DATADIR}/triggerd FILES_MATCHING PATTERN *.json)
install(FILES ${here}/prometheus-rules.yml ${here}/grafana-dashboard.json DESTINATION ${CMAKE_INSTALL_DATADIR}/triggerd)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/examples DESTINATION ${docs} USE_SOURCE_PERMISSIONS
  PATTERN __pycache__ EXCLUDE PATTERN quickstart.sh EXCLUDE)
# Where the first line of the examples looks for it.
file(CREATE_LINK ../../triggerd/schemas ${CMAKE_CURRENT_BINARY_DIR}/schemas-of-examples SYMBOLIC)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/schemas-of-examples DESTINATION ${docs} RENAME schemas)
install(FILES ${PROJECT_SOURCE_DIR}/README.md ${here}/OPERATIONS.md ${here}/copyright ${here}/changelog DESTINATION ${docs})

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME triggerd)
set(CPACK_PACKAGE_CONTACT "The triggerd developers <triggerd@users.noreply.github.com>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "run pipelines when something happens")
set(CPACK_PACKAGE_DESCRIPTION "triggerd runs pipelines when a file is written, another pipeline ends, a
message arrives on a queue, an MCP server speaks, a clock strikes, or
somebody emits an event. What is wanted are manifests in a directory; the
same system is a mounted file system and a REST API.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ
  WORLD_EXECUTE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# Loaded when they are needed, so that no tool finds them in the program.
set(CPACK_DEBIAN_PACKAGE_DEPENDS
  "libcurl4, libgit2-1.5, libhiredis0.14, librabbitmq4, librdkafka1, systemd | systemd-standalone-sysusers, systemd | systemd-standalone-tmpfiles")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "fuse3, bubblewrap")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "prometheus")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${here}/postinst ${here}/prerm ${here}/postrm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_PRE_BUILD_SCRIPTS ${here}/debian.cmake)
include(CPack)
