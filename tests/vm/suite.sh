#!/bin/sh
# Builds the VM's suite and runs it: tests/vm/suite.sh [--kernel V]... [FILTER]
#
# Without --kernel: 6.12 (the oldest that mounts EROFS from files), 7.3 (the newest) and 6.1 (which
# must say no). The last line of each run is the test runner's own.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
here=$top/tests/vm
kernels='' filter=''
while [ $# -gt 0 ]; do
    case $1 in
        --kernel) kernels="$kernels $2"; shift 2 ;;
        *) filter=$1; shift ;;
    esac
done
cd "$top"
echo "vm: building the suite"
cargo build -q --bin layerseal
cargo test -q --test vm --no-run
tests=$(cargo test --test vm --no-run --message-format=json 2>/dev/null | sed -n 's/.*"executable":"\([^"]*\/vm-[^"]*\)".*/\1/p' | tail -n 1)
payload=$(mktemp -d "${TMPDIR:-/tmp}/layerseal-vm.XXXXXX")
trap 'rm -rf "$payload"' EXIT
trap 'exit 130' INT TERM
cp "$tests" "$payload/vm-tests"
cp "${CARGO_TARGET_DIR:-target}/debug/layerseal" "$payload/layerseal"
strip "$payload/vm-tests" "$payload/layerseal" 2>/dev/null || true
{ echo "LAYERSEAL_VM_FILTER='$filter'"; cat "$here/guest/run"; } >"$payload/guest-run"
status=0
for kernel in ${kernels:-6.12 7.3 6.1}; do
    sh "$here/image.sh" --kernel "$kernel"
    echo "vm: the suite on Linux $kernel"
    sh "$here/run.sh" --kernel "$kernel" --timeout 900 "$payload/guest-run" "$payload/layerseal" "$payload/vm-tests" || status=$?
done
exit $status
