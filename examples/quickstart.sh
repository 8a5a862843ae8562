#!/usr/bin/env bash
# From a fresh Debian 12 to a running trigger: installs what is missing, builds, starts triggerd on the manifests of
# examples/quickstart, drops a file, and shows the event, its decision, its run and its output. Ends what it started.
set -eu
cd "$(dirname "$0")/.."

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n== %s\n' "$*"; }

say "Installing what is missing"
packages="build-essential cmake ninja-build pkg-config libuv1-dev libyaml-dev libcjson-dev libsqlite3-dev
libcurl4-openssl-dev libmicrohttpd-dev libpcre2-dev libssl-dev libglib2.0-dev libsystemd-dev uthash-dev"
missing=
for package in $packages; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
    sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get -qq update
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive $sudo apt-get -qq install -y --no-install-recommends $missing >/dev/null
fi
echo "done"

say "Building"
cmake --preset release -DTRIGGERD_TESTS=OFF >/dev/null
cmake --build --preset release -- --quiet
export PATH=$PWD/build/release:$PATH

place=/tmp/triggerd-quickstart
rm -rf "$place"
mkdir -p "$place/inbox"
export TRIGGERD_SOCKET=$place/triggerd.sock

say "Starting triggerd on examples/quickstart"
triggerd --manifests examples/quickstart --state "$place/state" --socket "$TRIGGERD_SOCKET" --log-level warning &
daemon=$!
trap 'kill "$daemon" 2>/dev/null; wait "$daemon" 2>/dev/null; rm -rf "$place"' EXIT
for _ in $(seq 100); do
    curl -fs --unix-socket "$TRIGGERD_SOCKET" http://localhost/readyz >/dev/null 2>&1 && break
    triggerctl status >/dev/null 2>&1 && break
    sleep 0.1
done
triggerctl get triggers

say "Dropping a file: printf 'a,1\\nb,2\\nc,3\\n' > $place/inbox/orders.csv"
printf 'a,1\nb,2\nc,3\n' > "$place/inbox/orders.csv"
event=
for _ in $(seq 100); do
    event=$(triggerctl get events --status completed -o name | head -n 1)
    [ -n "$event" ] && break
    sleep 0.1
done
[ -n "$event" ] || { echo "no event came to its end"; triggerctl get events; exit 1; }

say "The event and its decision: triggerctl describe event ${event#event/}"
triggerctl describe event "${event#event/}"
run=$(triggerctl get runs -o name | head -n 1)
say "Its run: triggerctl describe run ${run#run/}"
triggerctl describe run "${run#run/}"
say "What it printed: triggerctl logs ${run#run/}"
triggerctl logs "${run#run/}"
say "Done: this was examples/quickstart/import.yaml"
