#!/bin/sh
# The packages: made, and installed, upgraded, removed and purged in roots of Debian, where containers of podman run
# before and after. The package for RPM is made and looked at, and installed, upgraded and erased by rpm in a root of
# Debian: no Fedora, but its scripts run, and podman with what it brings. As root; podman runs on this kernel.
#
# usage: run.sh [bookworm|trixie|forky]...
#
#   BINARY   what is packaged [default: target/release/layerseal, or that of target/debug where there is none]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
cd "$top"
vm=${LAYERSEAL_VM_DIR:-$top/target/vm}
made=$top/target/package

say() { echo "packages: $*"; }
die() { say "$*" >&2; exit 1; }
skip() {
    say "SKIPPED $*"
    [ -z "${LAYERSEAL_SKIPS:-}" ] || echo "SKIPPED packages: $*" >>"$LAYERSEAL_SKIPS"
}

[ "$(id -u)" = 0 ] || { skip "must be root"; exit 0; }
if [ -z "${BINARY:-}" ]; then
    BINARY=target/release/layerseal
    [ -x "$BINARY" ] || BINARY=target/debug/layerseal
fi
for program in "$BINARY" "$(dirname "$BINARY")/layerseal-runtime"; do
    [ -x "$program" ] || die "no $program: build it first"
done

tmp=$(mktemp -d "${TMPDIR:-/tmp}/layerseal-packages.XXXXXX")
# The roots are mounted in a namespace of their own, and go with it.
trap 'rm -rf --one-file-system "$tmp"' EXIT
trap 'exit 130' INT TERM HUP

# What a package holds, by its list: $1 says whose, the rest what must be there.
holds() {
    of=$1
    shift
    for file; do grep -q " \.\{0,1\}$file\$\|^$file\$" "$tmp/$of" || die "$of does not hold $file"; done
}

doc=/usr/share/doc/layerseal
both="/usr/bin/layerseal /usr/bin/layerseal-runtime /usr/lib/layerseal/runtime.toml
    /usr/lib/systemd/system/layerseal-gc.timer /usr/lib/systemd/system/layerseal-gc.service
    /usr/lib/systemd/system/layerseal-prepare.path /usr/lib/systemd/system/layerseal-prepare.service
    /usr/lib/tmpfiles.d/layerseal.conf /etc/containers/containers.conf.d/50-layerseal.conf /etc/crio/crio.conf.d/50-layerseal.conf
    /usr/share/layerseal/hooks/podman/layerseal-precreate.json /usr/share/layerseal/hooks/podman/layerseal-createRuntime.json
    /usr/share/layerseal/hooks/crio/layerseal-createRuntime.json /usr/share/bash-completion/completions/layerseal
    /usr/share/fish/vendor_completions.d/layerseal.fish $doc/policy.toml
    $doc/docs/podman[.]md $doc/hooks/README[.]md"

say "making them of $BINARY"
rm -rf "$made"
# Without what only a debugger reads, which takes a minute to compress.
mkdir "$tmp/bin"
for name in layerseal layerseal-runtime; do strip -o "$tmp/bin/$name" "$(dirname "$BINARY")/$name"; done
make --no-print-directory -o release deb rpm BINARY="$tmp/bin/layerseal" DEB_OPTIONS='--fast --compress-system' RPM_OPTIONS='--payload-compress none' >"$tmp/log" 2>&1 || { cat "$tmp/log"; die "not made"; }
deb=$(ls "$made"/*.deb)
rpm=$(ls "$made"/*.rpm)
# The same under an older version, to upgrade from.
PATH="$top/target/tools/packaging/bin:$PATH" cargo deb --quiet --no-build --no-strip --locked --fast --compress-system --deb-version 0.0.9-1 \
    --output "$tmp/old.deb" >"$tmp/log" 2>&1 || { cat "$tmp/log"; die "no older one"; }

dpkg-deb -c "$deb" >"$tmp/deb"
# shellcheck disable=SC2086  # a list of paths
holds deb $both /usr/share/zsh/vendor-completions/_layerseal /usr/share/man/man1/layerseal.1.gz \
    /usr/share/man/man5/layerseal-policy.toml.5.gz /usr/share/man/man7/layerseal-hooks.7.gz /usr/share/doc/layerseal/copyright
[ "$(dpkg-deb -f "$deb" Recommends)" = skopeo ] || die "the deb recommends no skopeo"
dpkg-deb -f "$deb" Depends | grep -q libssl || die "the deb does not depend on libssl: $(dpkg-deb -f "$deb" Depends)"
# Everything in it is root's, and for nobody else to write.
awk '($2 != "root/root" && $2 != "0/0") || substr($1, 6, 1) == "w" || substr($1, 9, 1) == "w" {print; bad = 1} END {exit bad}' "$tmp/deb" ||
    die "the deb has files that are not root's alone"
for script in contrib/packaging/*; do sh -n "$script"; done

if command -v rpm >/dev/null; then
    PATH="$top/target/tools/packaging/bin:$PATH" cargo generate-rpm --payload-compress none \
        --set-metadata 'version = "0.0.9"' --output "$tmp/old.rpm" >"$tmp/log" 2>&1 || { cat "$tmp/log"; die "no older rpm"; }
    rpm -qlp "$rpm" >"$tmp/rpm" 2>/dev/null
    # shellcheck disable=SC2086  # a list of paths
    holds rpm $both /usr/share/zsh/site-functions/_layerseal /usr/share/man/man1/layerseal.1 /usr/share/man/man7/layerseal-hooks.7
    rpm -qp --scripts "$rpm" >"$tmp/scripts" 2>/dev/null
    for what in 'preinstall scriptlet' 'postinstall scriptlet' 'preuninstall scriptlet' 'postuninstall scriptlet' \
        'mode = "audit"' 'systemctl --no-reload disable'; do
        grep -q "$what" "$tmp/scripts" || die "the rpm has no $what"
    done
    rpm -qp --configfiles "$rpm" 2>/dev/null | grep -q '^/etc/containers/containers.conf.d/50-layerseal.conf$' ||
        die "the rpm does not keep containers.conf.d"
    rpm -qp --recommends "$rpm" 2>/dev/null | grep -q '^skopeo' || die "the rpm recommends no skopeo"
    rpm -qp --requires "$rpm" 2>/dev/null | grep -q '^libssl' || die "the rpm does not require libssl"
    # What RPM's first word to the scripts is: 1 installs, 2 upgrades, 0 removes.
    for script in preinst postinst prerm postrm; do
        grep -q '1\|0' "contrib/packaging/$script" || die "$script does not know RPM's words"
    done
    say "the rpm holds what it must"
else
    skip "no rpm: the package for RPM is made and not looked at"
fi

# The root of a release, as a directory that is not written to.
root_of() {
    case $1 in
        trixie) disk=$vm/root/root.ext4 ;;
        forky) disk=$vm/root-forky/root.ext4 ;;
        bookworm) disk=$vm/root-bookworm/root.ext4 ;;
        *) die "no release $1" ;;
    esac
    [ -e "$disk" ] || sh tests/vm/image.sh --root-alone "$1" >&2
    echo "$disk"
}

# In an overlay over the root of release $1, with everything in $tmp/t at /t: the command after it, there.
in_root() {
    disk=$(root_of "$1")
    shift
    # shellcheck disable=SC2016  # expanded inside
    unshare --mount --pid --fork --kill-child --propagation private sh -euc '
        root=$1 tmp=$2
        shift 2
        mkdir -p "$tmp/lower" "$tmp/over"
        mount -o loop,ro "$root" "$tmp/lower"
        mount -t tmpfs over "$tmp/over"
        mkdir "$tmp/over/upper" "$tmp/over/work" "$tmp/over/root"
        mount -t overlay overlay -o "lowerdir=$tmp/lower,upperdir=$tmp/over/upper,workdir=$tmp/over/work" "$tmp/over/root"
        cd "$tmp/over/root"
        mount -t proc proc proc
        mount --rbind /dev dev
        mount --rbind /sys sys
        # crun takes no hybrid of cgroup versions.
        [ "$(stat -f -c %T sys/fs/cgroup)" = cgroup2fs ] || mount -t cgroup2 cgroup2 sys/fs/cgroup
        mount -t tmpfs -o mode=755 run run
        mkdir -p var/lib/containers t
        mount -t tmpfs containers var/lib/containers
        mount -t tmpfs vartmp var/tmp
        cp "$tmp"/t/* t
        exec "$@"
    ' sh "$disk" "$tmp" "$@" </dev/null || return
    rmdir "$tmp/lower" "$tmp/over" 2>/dev/null || true
}

mkdir "$tmp/t"
cp "$here/podman.sh" "$here/guest.sh" "$here/rpm.sh" "$tmp/t/"
cp "$deb" "$tmp/t/new.deb"
mv "$tmp/old.deb" "$tmp/t/"
for release in "${@:-trixie}"; do
    say "$release: installing, upgrading, removing, purging"
    in_root "$release" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C \
        DEBIAN_FRONTEND=noninteractive chroot . sh -eu /t/guest.sh || die "$release: failed"
done
if command -v rpm >/dev/null; then
    cp "$rpm" "$tmp/t/new.rpm"
    mv "$tmp/old.rpm" "$tmp/t/"
    say "the rpm: installing, upgrading, erasing"
    in_root "${1:-trixie}" sh -eu t/rpm.sh || die "the rpm: failed"
fi
say "ok"
