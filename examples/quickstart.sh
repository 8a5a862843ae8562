#!/usr/bin/env bash
# From a fresh Debian 12 to a running trigger: installs what is missing, builds, starts triggerd on the manifests of
# examples/quickstart, drops a file, and shows the event, its decision, its run and its output. Ends what it started.
# QUICKSTART_BUILD=DIR takes the programs of that directory, and neither installs nor builds.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -t 1 ]; then
    say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
else
    say() { printf '\n== %s\n' "$*"; }
fi
show() { # COMMAND...: says it, and runs it
    say "\$ $*"
    "$@"
}

install() {
    local packages package missing=() sudo=()
    packages="build-essential cmake ninja-build pkg-config libuv1-dev libyaml-dev libcjson-dev libsqlite3-dev
        libcurl4-openssl-dev librabbitmq-dev libhiredis-dev librdkafka-dev libmicrohttpd-dev libgnutls28-dev libfuse3-dev fuse3 bubblewrap
        libpcre2-dev libglib2.0-dev libgit2-dev uthash-dev tzdata"
    for package in $packages; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    if [ ${#missing[@]} = 0 ]; then
        echo "nothing"
        return
    fi
    echo "${missing[*]}" | fold -s -w 100
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get -qq update
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes \
        apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends "${missing[@]}" >/dev/null
}

build() {
    local quiet=()
    [ -t 1 ] || quiet=(-- --quiet)
    cmake --preset release >/dev/null
    cmake --build --preset release "${quiet[@]}"
}

if [ -z "${QUICKSTART_BUILD:-}" ]; then
    say "Installing what is missing"
    install
    say "Building, which takes about a minute"
    build
fi
PATH=$(realpath "${QUICKSTART_BUILD:-build/release}"):$PATH

place=/tmp/triggerd-quickstart # which the manifest names
# Never through a mount into what it shows.
clear() {
    fusermount3 -u -z -q "$place/mount" 2>/dev/null || true
    rm -rf --one-file-system "$place"
}
clear
mkdir -p "$place/inbox"
export TRIGGERD_SOCKET=$place/triggerd.sock

mount=() # the system as files, where there is FUSE
[ ! -w /dev/fuse ] || mount=(--mount "$place/mount")
say "\$ triggerd --manifests examples/quickstart --state $place/state ${mount[*]} &"
triggerd --manifests examples/quickstart --state "$place/state" --socket "$TRIGGERD_SOCKET" --log-level warning \
    "${mount[@]}" &
daemon=$!
trap 'kill "$daemon" 2>/dev/null || true; wait "$daemon" || true; clear' EXIT
until_found() { # COMMAND...: prints what it prints, as soon as that is something
    local found
    for _ in {1..300}; do
        found=$("$@" 2>/dev/null | head -n 1) || true
        [ -z "$found" ] || { echo "$found" && return; }
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.1
    done
    echo "waited in vain: $*" >&2
    return 1
}
until_found triggerctl get triggers -o name >/dev/null
show triggerctl get triggers

say "\$ printf 'a,1\\nb,2\\nc,3\\n' > $place/inbox/orders.csv"
printf 'a,1\nb,2\nc,3\n' > "$place/inbox/orders.csv"
event=$(until_found triggerctl get events -o name)
event=${event#event/}
show triggerctl wait event "$event" --timeout 30
show triggerctl get events
show triggerctl describe event "$event"
run=$(triggerctl get runs -o name)
run=${run#run/}
show triggerctl get runs
show triggerctl logs "$run"
if [ ${#mount[@]} -gt 0 ] && [ -e "$place/mount/health" ]; then
    show cat "$place/mount/health" "$place"/mount/triggers/*/status
    show ls "$place/mount/pipelines" "$place/mount/events"
fi

say "That was examples/quickstart/import.yaml. What next: the README's five minutes, and the other folders of examples/"
