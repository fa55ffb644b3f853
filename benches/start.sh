#!/bin/sh
# What a start costs, in two places: on this machine (in a mount namespace of its own; without fs-verity
# the kernel checks nothing, so only the call and the start are of interest), and in the VM with fs-verity
# on a stock kernel, where everything is several times slower and only ratios count, by a tenth of the
# large image: 60 000 files and 1.5 GB take more than ten minutes there.
#
# usage: start.sh [host] [vm]   LAYERSEAL_BENCH_FILES, _MB, _RUNS, _CALLS
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
cargo build -q --release --locked
bench=$(cargo bench --bench start --no-run --message-format=json 2>/dev/null | sed -n 's/.*"executable":"\([^"]*\/start-[^"]*\)".*/\1/p' | tail -n 1)
work=$PWD/target/bench.$$ # podman takes no capitals in the name of a layout
mkdir "$work"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

host() {
    command -v podman >/dev/null && command -v fuse-overlayfs >/dev/null || { echo "start: podman and fuse-overlayfs are needed here"; return; }
    echo "== on this machine (Linux $(uname -r))"
    made=''
    [ -d /etc/layerseal ] || { mkdir /etc/layerseal; made=yes; }
    mkdir -p "$work/etc" "$work/dir" /run/layerseal
    # shellcheck disable=SC2016  # expanded inside
    LAYERSEAL_BENCH_DIR=$work/dir LAYERSEAL_BENCH_FILES=${LAYERSEAL_BENCH_HOST_FILES:-0} LAYERSEAL_BENCH_VERITY=${verity:-off} LAYERSEAL_BIN=$top/target/release/layerseal \
        unshare -m --propagation private sh -c '
            mount --bind "$1/etc" /etc/layerseal
            mount -t tmpfs -o mode=755 none /run/layerseal
            [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || mount -t cgroup2 none /sys/fs/cgroup
            "$2"' sh "$work" "$bench"
    [ -z "$made" ] || rmdir /etc/layerseal
}

vm() {
    sh tests/vm/packages.sh vm
    echo "== in the VM"
    cp "$bench" "$work/start"
    cp target/release/layerseal "$work/layerseal"
    cat >"$work/guest" <<END
mkdir -p /etc/layerseal /data/bench
export LAYERSEAL_BENCH_DIR=/data/bench LAYERSEAL_BIN=\$PWD/layerseal
export LAYERSEAL_BENCH_FILES=${LAYERSEAL_BENCH_FILES:-6000} LAYERSEAL_BENCH_MB=${LAYERSEAL_BENCH_MB:-150}
export LAYERSEAL_BENCH_RUNS=${LAYERSEAL_BENCH_RUNS:-10} LAYERSEAL_BENCH_CALLS=${LAYERSEAL_BENCH_CALLS:-20}
./start
END
    LAYERSEAL_VM_MEMORY=8192 sh tests/vm/run.sh --timeout 3000 --disk-mb 12000 "$work/guest" "$work/start" "$work/layerseal"
}

for where in ${*:-host vm}; do "$where"; done
