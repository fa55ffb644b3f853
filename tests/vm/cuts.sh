#!/bin/sh
# Power cuts: tests/vm/cuts.sh [--kernel V] N
#
# Kills the guest N times at a random moment of pull, prepare, start, gc and fsck --repair in turn, with its data disk
# kept, boots it again, and looks: the vault is whole or says what is not and is mended, what is cut off leaves
# nothing, the image starts, every file of it is read, and the filesystem has nothing to complain about. What the
# guest's kernel has sent to the disk is on it: a disk that loses its own cache is not what is tested.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
here=$top/tests/vm
kernel=6.12
[ "${1-}" != --kernel ] || { kernel=$2; shift 2; }
rounds=${1:?usage: cuts.sh [--kernel V] N}
cd "$top"
tmp=$(mktemp -d "${TMPDIR:-/tmp}/layerseal-cuts.XXXXXX")
guest=
trap '[ -z "$guest" ] || { kill "$guest" || true; wait "$guest" || true; } 2>/dev/null; rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM

# $LAYERSEAL_BIN names another build: one with optimisation is several times as fast in the guest.
[ -n "${LAYERSEAL_BIN:-}" ] || cargo build -q --bin layerseal
cp "${LAYERSEAL_BIN:-${CARGO_TARGET_DIR:-target}/debug/layerseal}" "$tmp/layerseal"
strip "$tmp/layerseal" 2>/dev/null || true

# Some hundred files of all sizes, and a program to read them.
# shellcheck disable=SC2034  # for oci-layout.sh
created=2026-01-01T00:00:00Z
# shellcheck source=tests/support/oci-layout.sh
. "$top/tests/support/oci-layout.sh"
new_layout "$tmp/image"
root=$tmp/layer-root
mkdir -p "$root/usr/bin" "$root/usr/share/files"
cp /bin/busybox "$root/usr/bin/busybox"
finish_base_layer "$root"
number=0
while [ $number -lt 250 ]; do
    head -c $((number * number / 2 + 1)) /dev/zero | tr '\0' "\\$(printf %o $((65 + number % 26)))" >"$root/usr/share/files/$number"
    number=$((number + 1))
done
pack "$root" +gzip files
write_metadata '{}'
openssl req -newkey rsa:2048 -nodes -keyout "$tmp/signer.key" -x509 -days 30 -subj /CN=cuts -out "$tmp/signer.crt" 2>/dev/null
"$tmp/layerseal" sign "oci:$tmp/image" --cert "$tmp/signer.crt" --key "$tmp/signer.key" --identity registry.example.com/acme/app >/dev/null

# boot VERB: the guest in the background, and what it says in a file.
boot() {
    echo "$1" >"$tmp/verb"
    : >"$tmp/said"
    sh "$here/run.sh" --kernel "$kernel" --timeout 300 --disk-mb 512 --data "$tmp/data.ext4" \
        "$here/guest/cuts" "$tmp/layerseal" "$tmp/image" "$tmp/signer.crt" "$tmp/verb" >"$tmp/said" 2>&1 &
    guest=$!
}

# Waits until the guest has looked at the last cut; fails with what it says where it stops instead.
looked() {
    while ! grep -q "^CUT $1" "$tmp/said"; do
        if ! kill -0 "$guest" 2>/dev/null; then
            cat "$tmp/said"
            # An emulator on a busy machine fails at times before the guest has seen its data disk, vdd.
            if [ -z "${once_more:-}" ] && grep -q 'did not come up' "$tmp/said" && ! grep -q vdd "$tmp/said"; then
                echo "cuts: round $round: the emulator failed; once more"
                once_more=no
                boot "$1"
            else
                echo "cuts: round $round: the guest stopped" >&2
                exit 1
            fi
        fi
        sleep 0.2
    done
    once_more=
    grep '^cuts:' "$tmp/said" || true
}

round=0
while [ $round -lt "$rounds" ]; do
    case $((round % 5)) in 0) verb=start ;; 1) verb=pull ;; 2) verb=prepare ;; 3) verb=gc ;; 4) verb=repair ;; esac
    boot "$verb"
    looked "$verb"
    # Up to three seconds: as long as any of them takes here.
    sleep "$(awk "BEGIN { srand($(date +%N)); print 3 * rand() }")"
    kill "$guest"
    wait "$guest" || true
    guest=
    round=$((round + 1))
    echo "cuts: $round of $rounds: $verb"
done
boot none
wait "$guest" || { cat "$tmp/said"; echo "cuts: after the last cut the guest failed" >&2; exit 1; }
guest=
grep '^cuts:' "$tmp/said" || true
echo "test result: ok. $rounds passed; 0 failed; 0 ignored; power cuts on Linux $kernel"
