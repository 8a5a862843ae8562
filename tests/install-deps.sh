#!/bin/sh
# Installs what building and testing needs on Debian 12, where something is missing; as root or with sudo. What Debian
# has no package of goes into build/venv; without a network its tests are skipped.
set -eu

packages="build-essential cmake ninja-build pkg-config clang clang-tidy clang-format libclang-rt-14-dev
libuv1-dev libyaml-dev libcjson-dev libsqlite3-dev libcmocka-dev libcurl4-openssl-dev librabbitmq-dev libhiredis-dev librdkafka-dev libmicrohttpd-dev libgnutls28-dev openssl libfuse3-dev fuse3 bubblewrap libpcre2-dev
libglib2.0-dev libgit2-dev uthash-dev git procps util-linux tzdata
vim ed nano emacs-nox rsync strace inotify-tools jq json-schema-test-suite perl bash zsh fish man-db mandoc patch lintian python3-pil curl slowhttptest"
python3 -c 'import pytest' 2>/dev/null || packages="$packages python3 python3-pytest"
python3 -c 'import jsonschema' 2>/dev/null || packages="$packages python3-jsonschema"
python3 -c 'import ensurepip, venv' 2>/dev/null || packages="$packages python3-venv"
command -v npm >/dev/null || packages="$packages npm"
command -v chromium >/dev/null || packages="$packages chromium"
/usr/bin/python3 -c 'import setuptools, wheel' 2>/dev/null || packages="$packages python3-setuptools python3-wheel"

missing=
for package in $packages; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
    echo "installing:$missing"
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get -qq update
    # shellcheck disable=SC2086 # a list of words
    $sudo env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes \
        apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends $missing >/dev/null
fi

# Of Debian's Prometheus one program: the package itself would start a server.
tools=$(dirname "$0")/../build/tools
if [ ! -x "$tools/promtool" ] && ! command -v promtool >/dev/null; then
    mkdir -p "$tools/deb"
    (cd "$tools/deb" && apt-get -qq download prometheus && dpkg-deb --fsys-tarfile prometheus_*.deb |
        tar -xO ./usr/bin/promtool >../promtool.new && chmod +x ../promtool.new && mv ../promtool.new ../promtool) ||
        echo "without promtool: its test is skipped"
    rm -rf "$tools/deb" "$tools/promtool.new"
fi

venv=$(dirname "$0")/../build/venv
if [ ! -e "$venv/installed-3" ]; then
    if python3 -m venv --clear "$venv" &&
        "$venv/bin/pip" --disable-pip-version-check -q install 'check-jsonschema~=0.39' 'fastjsonschema~=2.22' \
            'schemathesis~=4.32' 'openapi-python-client~=0.29' 'standardwebhooks~=1.1' 'mypy~=1.15.0'; then
        touch "$venv/installed-3"
    else
        echo "without check-jsonschema, fastjsonschema, schemathesis, openapi-python-client, standardwebhooks: their tests are skipped"
    fi
fi
