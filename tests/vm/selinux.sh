#!/bin/sh
# SELinux, enforcing, with Debian's policy: tests/vm/suite.sh --selinux, by hand. It takes three minutes on a machine that does
# nothing else.
#
# First labels of mounts, with the policy permissive, then containers with the hooks, the mount program and the runtime, of crun
# and runc, under enforcing. Kernels before 6.14 are too old for the policy.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
here=$top/tests/vm
cd "$top"
tmp=$(mktemp -d "${TMPDIR:-/tmp}/layerseal-selinux.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
mkdir "$tmp/payload" "$tmp/out"

sh "$here/programs.sh" "$tmp/payload"
cargo test -q --test vm --no-run
tests=$(cargo test --test vm --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*\/vm-[^"]*\)".*/\1/p' | tail -n 1)
cp "$tests" "$tmp/payload/vm-tests"
strip "$tmp/payload/vm-tests" 2>/dev/null || true

# Two images: busybox and a file that says which.
# shellcheck disable=SC2034  # for oci-layout.sh
created=2026-01-01T00:00:00Z
# shellcheck source=tests/support/oci-layout.sh
. "$top/tests/support/oci-layout.sh"
for image in app other; do
    new_layout "$tmp/payload/$image"
    mkdir -p "$tmp/$image/usr/bin"
    cp /bin/busybox "$tmp/$image/usr/bin/busybox"
    for tool in sh cat grep touch sleep seq; do ln -s busybox "$tmp/$image/usr/bin/$tool"; done
    finish_base_layer "$tmp/$image"
    echo "the $image" >"$tmp/$image/etc/app"
    pack "$tmp/$image" +gzip files
    write_metadata '{"Env":["PATH=/usr/bin"]}'
done
openssl req -newkey rsa:2048 -nodes -keyout "$tmp/signer.key" -x509 -days 30 -subj /CN=acme -out "$tmp/payload/signer.crt" 2>/dev/null
"$tmp/payload/layerseal" sign "oci:$tmp/payload/app" --cert "$tmp/payload/signer.crt" --key "$tmp/signer.key" \
    --identity registry.example.com/acme/app >/dev/null

sh "$here/image.sh" --kernel 7.3 --root selinux
echo "vm: containers under SELinux"
cp "$here/guest/selinux" "$tmp/payload/selinux-run"
cp "$here/guest/selinux-containers" hooks/podman/*.json hooks/podman/runtime.conf "$tmp/payload"
# shellcheck disable=SC2046  # names without spaces
LAYERSEAL_VM_APPEND='security=selinux selinux=1 enforcing=0' sh "$here/run.sh" --kernel 7.3 --root selinux "$@" \
    --timeout 900 --disk-mb 512 --out "$tmp/out" "$tmp/payload"/*-run $(find "$tmp/payload" -mindepth 1 -maxdepth 1 ! -name '*-run') || exit
[ ! -s "$tmp/out/skipped" ] || { sed 's/$/ (SELinux)/' "$tmp/out/skipped" | tee -a "${LAYERSEAL_SKIPS:-/dev/null}"; }
