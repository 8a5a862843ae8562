#!/usr/bin/env bash
# The Debian package: built, looked over by lintian, installed on a Debian 12 that has nothing, used there, removed.
#
#   tests/package/run.sh [--no-install]   the last without installing it anywhere (needs no root, no network)
#
# Needs cpack; lintian, systemd-analyze and, to install, root, debootstrap and a mirror. The bare system is kept in
# build/package/bare.tar.
set -eu
cd "$(dirname "$0")/../.."
install=1
[ "${1:-}" != --no-install ] || install=0
out=$PWD/build/package
mkdir -p "$out"

cmake -S . -B "$out/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DTRIGGERD_TESTS=OFF >/dev/null
cmake --build "$out/build" -j"${JOBS:-$(nproc)}" >"$out/build.log" 2>&1 || { tail -30 "$out/build.log"; exit 1; }
(cd "$out/build" && rm -f ./*.deb && cpack >"$out/cpack.log" 2>&1) || { tail -30 "$out/cpack.log"; exit 1; }
deb=$(echo "$out"/build/*.deb)
echo "built $(basename "$deb")"

if command -v lintian >/dev/null; then
    lintian --fail-on error "$deb" 2>/dev/null
    echo "lintian has no errors"
fi

promtool=$(command -v promtool || ls "$PWD"/build/tools/promtool 2>/dev/null || true)
if [ -n "$promtool" ]; then
    "$promtool" check rules src/package/prometheus-rules.yml
    "$promtool" test rules tests/package/rules_test.yml
fi

root=$out/root
rm -rf "$root"
dpkg-deb -x "$deb" "$root"
if command -v systemd-analyze >/dev/null; then
    for unit in triggerd triggerd-mount; do
        # The program and its manual pages are not installed here.
        said=$(systemd-analyze verify "$root/usr/lib/systemd/system/$unit.service" 2>&1 |
            grep -v -e "is not executable" -e "Command 'man" | grep "$unit" || true)
        [ -z "$said" ] || { echo "$said"; exit 1; }
        systemd-analyze security --offline=true "$root/usr/lib/systemd/system/$unit.service" 2>/dev/null | tail -n 1
    done
fi
# What gives a service its own mount namespace would hide the mount, what implies NoNewPrivileges would stop fusermount3.
if grep -E '^(Protect|Private|ReadWrite|ReadOnly|Inaccessible|Bind|TemporaryFile|NoNewPriv|SystemCall|Restrict(Name|Addr|Real|SUID)|Lock|MemoryDeny|DynamicUser)' \
    "$root/usr/lib/systemd/system/triggerd-mount.service"; then
    echo "triggerd-mount.service must not have these"
    exit 1
fi
# Editors find the schema that an example names.
for example in "$root"/usr/share/doc/triggerd/examples/*/*.yaml; do
    schema=$(sed -n '1s/.*\$schema=//p' "$example")
    [ -s "$(dirname "$example")/$schema" ] || { echo "$example: no schema at \"$schema\""; exit 1; }
done
rm -rf "$root"

[ "$install" = 1 ] && [ "$(id -u)" = 0 ] && command -v debootstrap >/dev/null || exit 0
bare=$out/bare
inside() { chroot "$bare" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
gone() {
    umount -l "$bare/proc" "$bare/dev" 2>/dev/null || true
    rm -rf --one-file-system "$bare"
}
trap gone EXIT
gone
mkdir -p "$bare"
if [ ! -e "$out/bare.tar" ]; then
    mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p; s/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)
    debootstrap --variant=minbase bookworm "$bare" ${mirror:+"$mirror"} >"$out/debootstrap.log" 2>&1 ||
        { tail -5 "$out/debootstrap.log"; exit 1; }
    tar -C "$bare" -cf "$out/bare.tar" .
else
    tar -C "$bare" -xf "$out/bare.tar"
fi
[ ! -d /etc/apt/apt.conf.d ] || cp /etc/apt/apt.conf.d/* "$bare/etc/apt/apt.conf.d/" 2>/dev/null || true
[ ! -e /etc/apt/sources.list ] || cp /etc/apt/sources.list "$bare/etc/apt/"
cp -r /etc/apt/sources.list.d /etc/apt/keyrings "$bare/etc/apt/" 2>/dev/null || true
cp -L /etc/resolv.conf /etc/hosts "$bare/etc/" 2>/dev/null || true
mkdir -p "$bare/usr/local/share" && cp -r /usr/local/share/ca-certificates "$bare/usr/local/share/" 2>/dev/null || true
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || { mkdir -p "$bare/etc/ssl/certs" && cp -L /etc/ssl/certs/ca-certificates.crt "$bare/etc/ssl/certs/"; }
mount -t proc proc "$bare/proc"
mount --rbind /dev "$bare/dev" && mount --make-rslave "$bare/dev"
cp "$deb" "$bare/triggerd.deb"
printf '#!/bin/sh\nexit 101\n' >"$bare/usr/sbin/policy-rc.d" && chmod 755 "$bare/usr/sbin/policy-rc.d"
inside apt-get -qq update >"$out/apt.log" 2>&1 || { tail -5 "$out/apt.log"; exit 1; }
inside apt-get -qq install -y --no-install-recommends /triggerd.deb >"$out/apt.log" 2>&1 || { tail -20 "$out/apt.log"; exit 1; }
echo "installed on a bare Debian 12"

inside test -s /etc/triggerd/triggerd.yaml
[ "$(inside stat -c '%U %G %a' /var/lib/triggerd /etc/triggerd/manifests | tr '\n' ' ')" = "triggerd triggerd 750 root triggerd 2775 " ]
cp examples/custom-events/signup.yaml "$bare/etc/triggerd/manifests/"
inside triggerctl validate /etc/triggerd/manifests
inside setpriv --reuid triggerd --regid triggerd --clear-groups triggerd --config /etc/triggerd/triggerd.yaml >"$out/triggerd.log" 2>&1 &
daemon=$!
for _ in $(seq 200); do
    inside triggerctl status >/dev/null 2>&1 && break
    sleep 0.1
done
inside triggerctl get triggers
endpoint=$(sed -n 's/.*endpoint: *\([A-Za-z0-9_-]*\).*/\1/p' examples/custom-events/signup.yaml | head -n 1)
inside triggerctl emit "$endpoint" --data '{"action": "signup", "user": {"id": "u1", "age": 30, "email": "u@example.org"}}' | grep -q fired
kill "$daemon" 2>/dev/null || true
pkill -TERM -u "$(inside id -u triggerd)" triggerd || true
wait "$daemon" || true
grep -q drained "$out/triggerd.log"
inside apt-get -qq purge -y triggerd >"$out/apt.log" 2>&1 || { tail -20 "$out/apt.log"; exit 1; }
[ ! -e "$bare/var/lib/triggerd" ] && [ ! -e "$bare/usr/bin/triggerd" ]
echo "used, and purged"
