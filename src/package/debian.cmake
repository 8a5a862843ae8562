# What a Debian package has compressed: manual pages and the changelog, without the time of the build in them.
file(GLOB_RECURSE texts ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/*/share/man/*.[1-8] ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/*/changelog)
foreach(text ${texts})
  execute_process(COMMAND gzip -9nf ${text} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
# Debian's zsh looks here.
file(GLOB found ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/usr/share/zsh/site-functions)
foreach(folder ${found})
  cmake_path(GET folder PARENT_PATH zsh)
  file(RENAME ${folder} ${zsh}/vendor-completions)
endforeach()
