#!/bin/sh
# Builds the VM's suites and runs them: tests/vm/suite.sh [--kernel V]... [--podman trixie|forky|none]... [FILTER]
#
# First what needs fs-verity. Without --kernel: 6.12 (the oldest that mounts EROFS from files), 7.3 (the
# newest) and 6.1 (which must say no). Then containers: podman 5.4 of trixie on 6.12, and 5.8 of forky on
# 7.3. With one of the options only what it names. The last line of each run is the test runner's own.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
here=$top/tests/vm
kernels='' podmans='' filter=''
while [ $# -gt 0 ]; do
    case $1 in
        --kernel) kernels="$kernels $2"; shift 2 ;;
        --podman) podmans="$podmans $2"; shift 2 ;;
        *) filter=$1; shift ;;
    esac
done
case $kernels,$podmans in
    ,) kernels='6.12 7.3 6.1' podmans='trixie forky' ;;
esac
cd "$top"
payload=$(mktemp -d "${TMPDIR:-/tmp}/layerseal-vm.XXXXXX")
trap 'rm -rf "$payload"' EXIT
trap 'exit 130' INT TERM

# build NAME: puts the test binary NAME into the payload as NAME-tests, and its script as NAME-run.
build() {
    cargo test -q --test "$1" --no-run
    tests=$(cargo test --test "$1" --no-run --message-format=json 2>/dev/null |
        sed -n 's/.*"executable":"\([^"]*\/'"$1"'-[^"]*\)".*/\1/p' | tail -n 1)
    cp "$tests" "$payload/$1-tests"
    strip "$payload/$1-tests" 2>/dev/null || true
    { echo "LAYERSEAL_VM_FILTER='$filter'"; cat "$here/guest/$2"; } >"$payload/$1-run"
}

# guest KERNEL USERLAND NAME
guest() {
    sh "$here/image.sh" --kernel "$1" --root "$2"
    echo "vm: $3 tests on Linux $1, $2"
    sh "$here/run.sh" --kernel "$1" --root "$2" --timeout 900 --disk-mb 2048 \
        "$payload/$3-run" "$payload/layerseal" "$payload/$3-tests" || status=$?
}

echo "vm: building the suites"
cargo build -q --bin layerseal
cp "${CARGO_TARGET_DIR:-target}/debug/layerseal" "$payload/layerseal"
strip "$payload/layerseal" 2>/dev/null || true
[ -z "$kernels" ] || build vm run
[ -z "$podmans" ] || build podman podman
status=0
for kernel in $kernels; do guest "$kernel" trixie vm; done
for userland in $podmans; do
    case $userland in
        none) ;;
        forky) guest 7.3 forky podman ;;
        *) guest 6.12 trixie podman ;;
    esac
done
exit $status
