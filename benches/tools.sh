#!/bin/sh
# Gets the tools that layerseal is measured beside, into DIR: cfsctl as its crate builds it, and Debian's
# composefs, unpacked with the C library that it was built for. What is there stays.
#
# usage: tools.sh DIR
set -eu
cfsctl=0.9.4 # the version of the composefs crate that we use
mkdir -p "$1/packages"
dir=$(realpath "$1")
packages=$(dirname "$0")/../tests/vm/packages.sh
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
