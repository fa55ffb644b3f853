#!/bin/sh
# Builds what a guest boots from, once, under target/vm (or $LAYERSEAL_VM_DIR):
#
#   root/root.ext4            Debian 13 with the container tools, no kernel
#   root-forky/root.ext4      the release after it: a newer podman, less else
#   root-bookworm/root.ext4   Debian 12, for the packages alone
#   root-experimental/root.ext4   podman 6 of experimental on what sid has, less else
#   root-selinux/root.ext4    as root-forky, labelled, with SELinux's policy and our module for it
#   root-systemd/root.ext4    Debian 13 with systemd and a bus for each user, less else
#   kernel-V/vmlinuz          Debian's stock cloud kernel
#   kernel-V/initrd           busybox and the disk driver
#   kernel-V/modules.ext4     all modules, mounted over /usr/lib/modules
#
# One root serves every kernel, so another kernel costs its download only.
# Each part carries the hash of its recipe and is built anew when that changes.
#
# usage: image.sh [--kernel 6.12|7.3|6.1] [--root trixie|forky|experimental|selinux|systemd]
#        image.sh --root-alone bookworm|trixie|forky
set -eu

here=$(cd "$(dirname "$0")" && pwd)
dir=${LAYERSEAL_VM_DIR:-$here/../../target/vm}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
selinux_module=$here/../../contrib/selinux/layerseal.cil

packages='crun runc podman conmon netavark uidmap fuse-overlayfs skopeo docker-registry curl ca-certificates composefs
    fsverity e2fsprogs btrfs-progs f2fs-tools xfsprogs keyutils openssl softhsm2 pkcs11-provider attr util-linux mount busybox-static kmod iproute2 nftables procps strace'
# What a start of a container needs, and its tests.
few_packages='crun runc podman conmon netavark uidmap fuse-overlayfs e2fsprogs openssl util-linux mount busybox-static
    kmod iproute2 strace'
# And what podman of that library does with them: images of its own making, and layers that are pulled in parts.
experimental_packages='skopeo composefs'
# What a user's session is made of on a host with systemd.
systemd_packages='systemd libpam-systemd dbus dbus-user-session'
selinux_packages='selinux-policy-default policycoreutils selinux-utils skopeo attr'

say() { echo "vm: $*"; }
die() { say "$*" >&2; exit 1; }

# What a command says matters only when it fails.
quietly() { "$@" >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; die "failed: $1"; }; }

# A recipe is the text of the functions that build, and their argument.
recipe() {
    for function in $1; do sed -n "/^$function() {/,/^}/p" "$here/image.sh"; done
    echo "$2"
}

# part NAME "FUNCTION HELPERS" ARGUMENT: has FUNCTION fill an empty directory
# and puts that in place by renaming, so an interrupted build leaves nothing.
part() {
    want=$(recipe "$2" "$3" | sha256sum | cut -d' ' -f1)
    [ "$(cat "$dir/$1/recipe" 2>/dev/null)" != "$want" ] || return 0
    mirror=$("$here/packages.sh" mirror)
    [ -n "$mirror" ] || die "no Debian mirror found in /etc/apt"
    mkdir "$tmp/part"
    "${2%% *}" "$tmp/part" "$3"
    echo "$want" >"$tmp/part/recipe"
    rm -rf "${dir:?}/$1"
    mv "$tmp/part" "$dir/$1"
}

# composefs is not in Debian 13; forky's packages install there unchanged.
# Nothing else is to come from forky, hence the default release.
root() {
    say "building the root filesystem (about 30 s)"
    quietly mmdebstrap --variant=minbase --mode=root --format=directory \
        --include="$(echo "$2" | xargs | tr ' ' ,)" \
        --aptopt='APT::Default-Release "trixie"' \
        --aptopt='APT::Install-Recommends "false"' --aptopt='APT::Sandbox::User "root"' \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        trixie "$tmp/root" \
        "deb [signed-by=$keyring] $mirror trixie main" \
        "deb [signed-by=$keyring] $mirror forky main"
    disk_of_root "$1"
}

# alone RELEASE DISK PACKAGES: a root of one release.
alone() {
    say "building the root filesystem of $1 (about 30 s)"
    quietly mmdebstrap --variant=minbase --mode=root --format=directory \
        --include="$(echo "$3" | xargs | tr ' ' ,)" \
        --aptopt='APT::Install-Recommends "false"' --aptopt='APT::Sandbox::User "root"' \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        "$1" "$tmp/root" "deb [signed-by=$keyring] $mirror $1 main"
    disk_of_root "$2"
}

root_forky() {
    alone forky "$@"
}

root_systemd() {
    alone trixie "$@"
}

# Of the release before: what its own tools can do.
root_bookworm() {
    alone bookworm "$@"
}

# Of sid, with the podman of experimental and what is made for it; apt takes from there what is named so, and no more.
root_experimental() {
    say "building the root filesystem of experimental (about 40 s)"
    quietly mmdebstrap --variant=minbase --mode=root --format=directory \
        --include="$(echo "$2 golang-github-containers-common" |
            sed -E 's/\<(podman|netavark|runc|golang-[a-z-]*)\>/&\/experimental/g' | xargs | tr ' ' ,)" \
        --aptopt='APT::Install-Recommends "false"' --aptopt='APT::Sandbox::User "root"' \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        sid "$tmp/root" \
        "deb [signed-by=$keyring] $mirror sid main" \
        "deb [signed-by=$keyring] $mirror experimental main"
    disk_of_root "$1"
}

# Every file has its label before the first boot. $2: the module's checksum, for the recipe, and packages.
root_selinux() {
    say "building the root filesystem with SELinux (about 60 s)"
    quietly mmdebstrap --variant=minbase --mode=root --format=directory \
        --include="$(echo "${2#* }" | xargs | tr ' ' ,)" \
        --aptopt='APT::Install-Recommends "false"' --aptopt='APT::Sandbox::User "root"' \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        forky "$tmp/root" "deb [signed-by=$keyring] $mirror forky main"
    cp "$selinux_module" "$tmp/root/tmp/layerseal.cil"
    quietly chroot "$tmp/root" semodule --noreload --install /tmp/layerseal.cil
    rm "$tmp/root/tmp/layerseal.cil"
    mkdir -p "$tmp/root/usr/lib/modules" "$tmp/root/data" "$tmp/root/t"
    quietly chroot "$tmp/root" setfiles -F /etc/selinux/default/contexts/files/file_contexts /
    disk_of_root "$1"
}

disk_of_root() {
    mkdir -p "$tmp/root/usr/lib/modules" "$tmp/root/data" "$tmp/root/t"
    truncate -s 2G "$1/root.ext4"
    quietly mke2fs -q -t ext4 -O 'verity,^has_journal' -d "$tmp/root" "$1/root.ext4"
    rm -rf --one-file-system "$tmp/root"
}

# It finds another release's kernel.
private_apt() {
    quietly "$here/packages.sh" private-apt "$1" "$tmp/apt"
    export APT_CONFIG="$tmp/apt/conf"
}

kernel() {
    say "fetching the $2 kernel (about 10 s)"
    # The kernel for clouds is smaller; the other has f2fs.
    image=linux-image-cloud-amd64
    case $2 in 6.1) private_apt bookworm ;; 6.12) private_apt trixie; image=linux-image-amd64 ;; 7.3) private_apt trixie-backports ;; esac
    # Newer kernels are split: the image package only pulls in the others.
    names=$(apt-get --simulate --no-install-recommends install "$image" |
        sed -nE 's/^Inst (linux-(base|binary|image|modules)-[0-9][^ ]*).*/\1/p')
    cd "$tmp/apt"
    # shellcheck disable=SC2086  # a list of names
    quietly apt-get -qq download $names
    cd "$here"
    for deb in "$tmp"/apt/*.deb; do dpkg-deb -x "$deb" "$tmp/tree"; done
    rm -rf "$tmp/apt"
    [ -d "$tmp/tree/lib" ] || mv "$tmp/tree/usr/lib" "$tmp/tree/lib"
    release=$(ls "$tmp/tree/lib/modules")
    case $release in "$2".*) ;; *) say "note: the archive has moved on from $2 to $release" ;; esac

    find "$tmp/tree" -type f -name 'vmlinuz*' -exec mv {} "$1/vmlinuz" \;
    depmod -b "$tmp/tree" "$release"
    initrd "$1/initrd" "$tmp/tree" "$release"
    truncate -s 400M "$1/modules.ext4"
    quietly mke2fs -q -t ext4 -O '^has_journal' -d "$tmp/tree/lib/modules" "$1/modules.ext4"
    rm -rf "$tmp/tree"
}

# Just enough to reach the root disk. run.sh appends the guest's own script as
# a second archive, so that changing that script rebuilds nothing.
initrd() {
    mkdir -p "$tmp/initrd/dev" "$tmp/initrd/proc" "$tmp/initrd/sys" "$tmp/initrd/root"
    quietly debugfs -R "dump -p /usr/bin/busybox $tmp/initrd/busybox" "$dir/root/root.ext4"
    number=10
    modprobe -S "$3" -d "$2" --show-depends -a virtio_pci virtio_blk ext4 | sed -n 's/^insmod //p' |
        while read -r module; do
            case $module in *.xz) xz -dc "$module" ;; *) cat "$module" ;; esac >"$tmp/initrd/$number.ko"
            number=$((number + 1))
        done
    [ -e "$tmp/initrd/10.ko" ] || die "no virtio_blk in the modules of $3"
    # A module that two others need is listed twice: its second load may fail.
    cat >"$tmp/initrd/init" <<'END'
#!/busybox sh
set -e
/busybox mount -t devtmpfs dev /dev
/busybox mount -t proc proc /proc
/busybox mount -t sysfs sys /sys
for module in /*.ko; do /busybox insmod "$module" 2>/dev/null || true; done
/busybox mount -t ext4 /dev/vda /root
/busybox mount -t ext4 -o ro /dev/vde /root/usr/lib/modules
/busybox mount -t tmpfs -o mode=755 run /root/run
/busybox cp /guest /root/run/guest
for fs in dev proc sys; do /busybox mount --move "/$fs" "/root/$fs"; done
exec /busybox switch_root /root /bin/sh /run/guest
END
    chmod 755 "$tmp/initrd/init" "$tmp/initrd/busybox"
    (cd "$tmp/initrd" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$1"
    rm -rf "$tmp/initrd"
}

version=6.12 userland=trixie
while [ $# -gt 0 ]; do
    case $1,${2-} in
        --kernel,6.1 | --kernel,6.12 | --kernel,7.3) version=$2 ;;
        --root,trixie | --root,forky | --root,experimental | --root,selinux | --root,systemd) userland=$2 ;;
        --root-alone,bookworm | --root-alone,trixie | --root-alone,forky) userland=$2 version= ;;
        *) echo "usage: image.sh [--kernel 6.12|7.3|6.1] [--root trixie|forky|experimental|selinux|systemd] | --root-alone bookworm|trixie|forky" >&2; exit 2 ;;
    esac
    shift 2
done
for tool in mmdebstrap mke2fs depmod cpio xz; do
    command -v "$tool" >/dev/null || die "no $tool: run tests/vm/packages.sh vm first"
done
[ "$(id -u)" = 0 ] || die "must be root"

mkdir -p "$dir/tmp"
dir=$(cd "$dir" && pwd)
# One builder at a time; the next one finds everything done.
exec 9>"$dir/lock"
flock 9
tmp=$dir/tmp/image
trap 'rm -rf --one-file-system "$tmp"' EXIT
trap 'exit 130' INT TERM HUP
rm -rf --one-file-system "$tmp"
mkdir "$tmp"
# Every kernel's initrd needs it.
case $version,$userland in
    ,bookworm | ,forky) ;;
    *) part root 'root disk_of_root' "$packages" ;;
esac
case $userland in
    bookworm) part root-bookworm 'root_bookworm alone disk_of_root' "$few_packages" ;;
    forky) part root-forky 'root_forky alone disk_of_root' "$few_packages" ;;
    experimental) part root-experimental 'root_experimental disk_of_root' "$few_packages $experimental_packages" ;;
    systemd) part root-systemd 'root_systemd alone disk_of_root' "$few_packages $systemd_packages" ;;
    selinux) part root-selinux 'root_selinux disk_of_root' "$(sha256sum <"$selinux_module" | cut -c 1-64) $few_packages $selinux_packages" ;;
esac
[ -z "$version" ] || part "kernel-$version" 'kernel initrd private_apt' "$version"
