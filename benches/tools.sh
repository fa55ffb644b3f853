#!/bin/sh
# Gets the tools that layerseal is measured beside, into DIR: cfsctl as its crate builds it, and Debian's
# composefs, unpacked with the C library that it was built for; and fuse-overlayfs 2, which no Debian has yet. What is
# there stays.
#
# usage: tools.sh DIR [fuse-overlayfs]
set -eu
cfsctl=0.9.4 # the version of the composefs crate that we use
fuse_overlayfs=2.0.0
mkdir -p "$1/packages"
dir=$(realpath "$1")
packages=$(dirname "$0")/../tests/vm/packages.sh
if [ ! -e "$dir/fuse-overlayfs-$fuse_overlayfs" ]; then
    echo "bench: building fuse-overlayfs $fuse_overlayfs"
    cargo install --quiet --locked --root "$dir/fuse-overlayfs-2" --version "$fuse_overlayfs" fuse-overlayfs
    touch "$dir/fuse-overlayfs-$fuse_overlayfs"
fi
[ "${2:-}" != fuse-overlayfs ] || exit 0
if [ ! -e "$dir/cfsctl-$cfsctl" ]; then
    echo "bench: building cfsctl $cfsctl (a few minutes)"
    cargo install --quiet --locked --root "$dir/cargo" --version "$cfsctl" composefs-ctl
    ln -sf cargo/bin/cfsctl "$dir/cfsctl"
    touch "$dir/cfsctl-$cfsctl"
fi
if [ ! -e "$dir/composefs/usr/bin/mkcomposefs" ]; then
    names=$(sh "$packages" fetch forky "$dir/packages" composefs)
    rm -rf "$dir/composefs.new"
    for name in $names; do dpkg-deb -x "$dir/packages/${name}"_*.deb "$dir/composefs.new"; done
    mv "$dir/composefs.new" "$dir/composefs"
fi
