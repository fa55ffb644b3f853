#!/bin/sh
# Builds layerseal for arm64 with Debian's own cross compiler and Rust: tests/arm64.sh [check|build]. By hand: a root of forky with
# both takes 2 GB in target/arm64 and some minutes, once. Crates come from this machine's registry, so build here first.
# Nothing is run: that needs a machine, or qemu-user.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
dir=$top/target/arm64 root=$top/target/arm64/root
[ "$(id -u)" = 0 ] || { echo "arm64: must be root" >&2; exit 1; }
mkdir -p "$dir/built"
if [ ! -e "$dir/whole" ]; then
    rm -rf --one-file-system "$root"
    mmdebstrap --quiet --variant=minbase --mode=root --format=directory --architectures=amd64,arm64 \
        --include=rustc,cargo,pkg-config,gcc,libc6-dev,gcc-aarch64-linux-gnu,libc6-dev-arm64-cross,libstd-rust-dev:arm64,libssl-dev:arm64 \
        --aptopt='APT::Install-Recommends "false"' --aptopt='APT::Sandbox::User "root"' --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        forky "$root" "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $("$top/tests/vm/packages.sh" mirror) forky main"
    touch "$dir/whole"
fi
mkdir -p "$root/src" "$root/built" "$root/home/.cargo/registry"
registry=${CARGO_HOME:-$HOME/.cargo}/registry
# shellcheck disable=SC2016  # expanded inside
exec unshare -m --propagation private sh -euc '
    mount --bind "$1" "$3/src"
    mount --bind "$2" "$3/home/.cargo/registry"
    mount --bind "$4" "$3/built"
    mount -t proc proc "$3/proc"
    mount --rbind /dev "$3/dev"
    exec chroot "$3" env -i PATH=/usr/bin:/bin HOME=/home CARGO_HOME=/home/.cargo CARGO_TARGET_DIR=/built CARGO_NET_OFFLINE=true \
        CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
        PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig \
        sh -c "cd /src && cargo $5 --locked --bins --target aarch64-unknown-linux-gnu"
' sh "$top" "$registry" "$root" "$dir/built" "${1:-build}"
