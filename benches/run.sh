#!/bin/sh
# Measures everything beside the others, and writes docs/benchmarks.md with a picture for each table: eighty
# minutes from nothing, and up to 60 GB of disk for a while. Once on this machine, and once in a VM with fs-verity on a
# stock kernel without KVM, where everything is several times slower and only ratios count: there the small image is used.
#
# usage: run.sh [hash] [pull] [vault] [directory] [growth] [reading] [start] [hooks] [check] [rootless] [registry] [seals]
#               [podmans] [elsewhere] [vm] [report]
#        run.sh quick: starts, and pull, sign and mount of the small image, in ten minutes, with their ratios beside those
#        of the page. It writes no page.
# Results are kept in target/bench/results.jsonl: a part that is measured again replaces what it said before. What is not
# in it stays on the page as it was.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
[ "$(id -u)" = 0 ] || { echo "bench: mounting needs root" >&2; exit 1; }
[ $# -gt 0 ] || set -- hash pull vault directory growth reading start podmans check rootless registry elsewhere vm report
kept=$top/target/bench/results.jsonl
if [ "$*" = quick ]; then
    set -- quick
    kept=$top/target/bench/quick.jsonl
    export LAYERSEAL_BENCH_IMAGES=small LAYERSEAL_BENCH_RUNS=10 LAYERSEAL_BENCH_CALLS=20 LAYERSEAL_BENCH_AT_ONCE=2
fi
work=$top/target/bench/work/$$
mkdir -p "$work"
trap 'rm -rf --one-file-system "$top"/target/bench/work' EXIT
trap 'exit 130' INT TERM

sh tests/vm/packages.sh vm
sh tests/vm/packages.sh bench
# Parts that compare nothing with others need no others.
alone=yes
for part; do case $part in hooks | podmans | check | rootless | registry | seals | elsewhere | report) ;; *) alone='' ;; esac; done
only=''
case $1,$alone,${LAYERSEAL_BENCH_FIRST:-} in quick,* | *,yes,small-*) only=small ;; esac
# shellcheck disable=SC2086  # a word or none
sh benches/inputs.sh target/bench/inputs $only
# shellcheck disable=SC2046  # a word or none
sh benches/tools.sh target/bench/tools $([ -z "$alone" ] || echo fuse-overlayfs)
cargo build -q --release --locked
benchmark() {
    cargo bench --locked --bench "$1" --no-run --message-format=json 2>/dev/null |
        sed -n 's/.*"executable":"\([^"]*\/'"$1"'-[^"]*\)".*/\1/p' | tail -n 1
}
beside=$(benchmark beside)
start=$(benchmark start)

inputs=$top/target/bench/inputs
export LAYERSEAL_BENCH_TOOLS="$top/target/bench/tools"
# Of a short run the first use is left out.
[ "$1" = quick ] || export LAYERSEAL_BENCH_INPUTS="$inputs"
# As an installer leaves it: in the linker's own file the page cache has small pieces, which costs a start 0.1 ms.
mkdir "$work/bin"
cp target/release/layerseal target/release/layerseal-runtime "$work/bin/"
export LAYERSEAL_BENCH_DIR="$work" LAYERSEAL_BIN="$work/bin/layerseal"

# record PLACE TABLE...: what comes after this is put in the place of these tables.
record() {
    place=$1
    shift
    for table; do
        [ ! -e "$kept" ] || { grep -v "\"table\":\"$table.*\"where\":\"$place\"" "$kept" || true; } >"$kept.new"
        [ ! -e "$kept.new" ] || mv "$kept.new" "$kept"
    done
    LAYERSEAL_BENCH_DATE=$(date -u +%F)
    export LAYERSEAL_BENCH_RESULTS="$kept" LAYERSEAL_BENCH_WHERE="$place" LAYERSEAL_BENCH_DATE
}

# In a mount namespace of its own, with an /etc/layerseal of its own; and of which the first process is in it, as on a host.
start_here() {
    made=''
    [ -d /etc/layerseal ] || { mkdir /etc/layerseal; made=yes; }
    mkdir -p "$work/etc" "$work/var" /run/layerseal /var/lib/layerseal
    # shellcheck disable=SC2016  # expanded inside
    LAYERSEAL_BENCH_VERITY=off unshare -m --pid --fork --mount-proc --propagation private sh -c '
        mount --bind "$1/etc" /etc/layerseal
        mount -t tmpfs -o mode=755 none /run/layerseal
        mount --bind "$1/var" /var/lib/layerseal
        [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || mount -t cgroup2 none /sys/fs/cgroup
        "$2"' sh "$work" "$start"
    [ -z "$made" ] || rmdir /etc/layerseal
}

# start_with ROOT: the same beneath another Debian's root, with its podman and crun.
start_with() {
    image=${LAYERSEAL_VM_DIR:-$top/target/vm}/root-$1/root.ext4
    sh tests/vm/image.sh --root "$1"
    own=$work/of-$1
    mkdir -p "$own/image" "$own/root" "$own/upper" "$own/over" "$own/bench"
    # shellcheck disable=SC2016  # expanded inside
    LAYERSEAL_BENCH_VERITY=off LAYERSEAL_BENCH_PODMAN=yes LAYERSEAL_BENCH_DIR="$own/bench" \
        unshare -m --pid --fork --propagation private sh -euc '
        own=$1 image=$2 start=$3
        shift 3
        mount -o loop,ro "$image" "$own/image"
        mount -t overlay -o "lowerdir=$own/image,upperdir=$own/upper,workdir=$own/over" root "$own/root"
        # Before what is shared, which may be beneath one of them.
        for dir in run tmp var/tmp var/lib; do mount -t tmpfs none "$own/root/$dir"; done
        # A directory that is seen in both.
        for shared; do
            mkdir -p "$own/root$shared"
            mount --bind "$shared" "$own/root$shared"
        done
        cd "$own/root"
        mount --rbind /dev dev
        mount --rbind /sys sys
        pivot_root . mnt
        cd /
        mount -t proc proc /proc
        umount -l /mnt
        mkdir -p /etc/layerseal /run/layerseal /var/lib/layerseal /var/lib/containers
        [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || mount -t cgroup2 none /sys/fs/cgroup
        "$start"' sh "$own" "$image" "$start" \
        "$(dirname "$LAYERSEAL_BIN")" "$(dirname "$kept")"
}

vm() {
    echo "vm"
    # The parts before have left files in $work.
    vm=$work/vm
    mkdir "$vm"
    cp "$start" "$vm/start"
    cp "$beside" "$vm/beside"
    mkdir -p "$vm/data/inputs/growth" "$vm/tools"
    for image in small-1 small-5 small-10 small-50; do cp -al "target/bench/inputs/$image" "$vm/data/inputs/"; done
    for case in files-1000 files-10000 layers-1 layers-10 layers-100; do
        # The part `growth` makes them.
        [ ! -d "target/bench/inputs/growth/$case" ] || cp -al "target/bench/inputs/growth/$case" "$vm/data/inputs/growth/"
    done
    cp -a target/bench/tools/composefs "$vm/tools/"
    cp target/bench/tools/cargo/bin/cfsctl "$vm/tools/cfsctl"
    cp -a target/bench/tools/fuse-overlayfs-2 "$vm/tools/"
    cp target/release/layerseal "$vm/layerseal"
    # On the data disk: the root of the guest has no room for them.
    truncate -s 12000M "$vm/data.ext4"
    mke2fs -q -t ext4 -O verity -b 4096 -d "$vm/data" "$vm/data.ext4"
    cat >"$vm/guest" <<'END'
mkdir -p /etc/layerseal /data/bench /data/beside
export LAYERSEAL_BIN=$PWD/layerseal LAYERSEAL_BENCH_INPUTS=/data/inputs LAYERSEAL_BENCH_TOOLS=$PWD/tools
export LAYERSEAL_BENCH_RESULTS=$PWD/out/results LAYERSEAL_BENCH_WHERE=vm LAYERSEAL_BENCH_VERITY=on
export LAYERSEAL_BENCH_IMAGES=small LAYERSEAL_BENCH_FIRST=small-5 LAYERSEAL_BENCH_RUNS=6 LAYERSEAL_BENCH_CALLS=12
LAYERSEAL_BENCH_DIR=/data/bench ./start && rm -rf /data/bench || exit
mkdir /data/bench
LAYERSEAL_BENCH_DIR=/data/bench LAYERSEAL_BENCH_ELSEWHERE=small-5 ./start && rm -rf /data/bench || exit
LAYERSEAL_BENCH_DIR=/data/beside LAYERSEAL_BENCH_IMAGES=small,files,layers ./beside vault growth reading
END
    LAYERSEAL_VM_MEMORY=6144 sh tests/vm/run.sh --timeout 3000 --data "$vm/data.ext4" --out "$vm/out" \
        "$vm/guest" "$vm/start" "$vm/beside" "$vm/tools" "$vm/layerseal"
    record vm ''
    sed "s/\"date\":\"\"/\"date\":\"$LAYERSEAL_BENCH_DATE\"/" "$vm/out/results" >>"$kept"
}

machine() {
    record host machine
    line() { printf '{"table":"machine","case":"%s","tool":"%s","where":"host"}\n' "$1" "$2" >>"$kept"; }
    processor="$(nproc) cores of $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
    flags=$(grep -oEm1 '\b(sha_ni|avx2|avx512bw|vaes)\b' /proc/cpuinfo | sort -u | xargs)
    memory=$(awk '/MemTotal/ {printf "%d GB", $2 / 1024 / 1024}' /proc/meminfo)
    tools="$(podman --version), $(fuse-overlayfs --version 2>&1 | grep -m1 fuse-overlayfs:) and $(sed -n 's/^fuse_overlayfs=//p' benches/tools.sh), cfsctl $(sed -n 's/^cfsctl=\([^ ]*\).*/\1/p' benches/tools.sh), $("$LAYERSEAL_BIN" --version)"
    # Tables that were measured on another day may be of another machine.
    line "$(date -u +%F)" "$processor ($flags), $memory, $(uname -sr), $(stat -f -c %T "$work"); $tools"
    for image in small big; do
        [ ! -e "target/bench/inputs/$image.count" ] ||
            line "$image image" "$(sed 's/ / inodes, /' "target/bench/inputs/$image.count") MB"
    done
}

for part; do
    case $part in
        hash) record host hashing; cargo bench -q --locked --bench verity ;;
        pull) record host pull; "$beside" pull ;;
        vault) record host sign mount; "$beside" vault ;;
        directory) record host directory; "$beside" directory ;;
        growth) record host growth; "$beside" growth ;;
        reading) record host reading; "$beside" reading ;;
        start) record host starts program 'first use'; start_here ;;
        hooks)
            record host 'starts","case":"hooks, warm'
            export LAYERSEAL_BENCH_HOOKS=yes
            start_here
            unset LAYERSEAL_BENCH_HOOKS
            ;;
        podmans) record host podmans; start_with forky; start_with experimental ;;
        check)
            record host check
            export LAYERSEAL_BENCH_CHECK=200
            start_here
            unset LAYERSEAL_BENCH_CHECK
            ;;
        rootless)
            record host rootless
            export LAYERSEAL_BENCH_ROOTLESS=20
            start_here
            unset LAYERSEAL_BENCH_ROOTLESS
            ;;
        registry | seals)
            case $part in
                registry) record host registry seals ;;
                seals) record host seals; export LAYERSEAL_BENCH_SEALS=only ;;
            esac
            sh tests/registry/tools.sh
            export LAYERSEAL_BENCH_REGISTRY="${LAYERSEAL_BENCH_FIRST:-big-5}"
            start_here
            unset LAYERSEAL_BENCH_REGISTRY LAYERSEAL_BENCH_SEALS
            ;;
        elsewhere)
            record host 'vault elsewhere'
            export LAYERSEAL_BENCH_ELSEWHERE="${LAYERSEAL_BENCH_FIRST:-big-5}"
            start_here
            unset LAYERSEAL_BENCH_ELSEWHERE
            ;;
        vm) vm ;;
        quick)
            record host starts program sign mount pull
            start_here
            export LAYERSEAL_BENCH_INPUTS="$inputs"
            "$beside" vault pull
            "$beside" compare "$kept" docs/benchmarks.md
            ;;
        report) machine; mkdir -p docs; "$beside" report "$kept" docs ;;
        *) echo "bench: nothing measures $part" >&2; exit 2 ;;
    esac
done
