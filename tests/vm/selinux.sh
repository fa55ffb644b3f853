#!/bin/sh
# Labels of mounts, on a guest with Debian's SELinux policy: tests/vm/selinux.sh [--kernel V]. By hand, not part of the suite:
# the first run needs a minute for the policy, which kernels before 6.13 are too old for. The policy is loaded and permissive:
# programs of the guest have no labels, and what a container might do is asked of the policy itself.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
here=$top/tests/vm
policy=$top/target/vm/selinux
cd "$top"
if [ ! -e "$policy/etc/selinux/default/policy" ]; then
    mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources | head -n 1)
    rm -rf "$policy.new" "$policy"
    mmdebstrap --quiet --variant=minbase --mode=root --include=selinux-policy-default,policycoreutils,selinux-utils \
        --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' trixie "$policy.new" \
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" 2>"$policy.log"
    mkdir -p "$policy/etc"
    mv "$policy.new/etc/selinux" "$policy/etc/"
    rm -rf "$policy.new"
fi
payload=$(mktemp -d "${TMPDIR:-/tmp}/layerseal-selinux.XXXXXX")
trap 'rm -rf "$payload"' EXIT
cargo build -q --bins
cargo test -q --test vm --no-run
tests=$(cargo test --test vm --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*\/vm-[^"]*\)".*/\1/p' | tail -n 1)
cp "${CARGO_TARGET_DIR:-target}/debug/layerseal" "$tests" "$payload/"
mv "$payload/$(basename "$tests")" "$payload/vm-tests"
strip "$payload/layerseal" "$payload/vm-tests"
cp -a "$policy/etc/selinux" "$payload/selinux"
cp "$here/guest/selinux" "$payload/selinux-run"
LAYERSEAL_VM_APPEND='security=selinux selinux=1 enforcing=0' exec sh "$here/run.sh" --kernel 7.3 "$@" --timeout 400 "$payload/selinux-run" \
    "$payload/layerseal" "$payload/vm-tests" "$payload/selinux"
