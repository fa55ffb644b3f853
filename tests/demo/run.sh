#!/bin/sh
# The whole story on a real image: seal, verify, mount with the kernel checking, and every refusal.
# Does its own set-up on Debian 12 or 13 as root. The part with fs-verity runs in a VM with a stock
# Debian kernel, because few hosts have a filesystem with it at hand; tests/demo/guest.sh is that
# part, and runs on any host with fs-verity as well.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top"
work=target/demo
mkdir -p "$work"
colours=no
[ ! -t 1 ] || [ -n "${NO_COLOR:-}" ] || colours=yes
if [ $colours = yes ]; then
    say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
else
    say() { printf '\n== %s\n' "$*"; }
fi

say "Building layerseal"
cargo build --release --locked
sh tests/vm/packages.sh vm

say "A real image: three layers (tar, gzip, zstd) from Debian packages"
rm -rf "$work/image" "$work/keys"
sh tests/demo/image.sh "$work/image"
ls=target/release/layerseal

say "A key and a certificate for the publisher, and others for a stranger"
mkdir -p "$work/keys"
for who in publisher stranger; do
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=$who" -addext keyUsage=digitalSignature \
        -keyout "$work/keys/$who.key" -out "$work/keys/$who.crt" 2>/dev/null
    chmod 600 "$work/keys/$who.key"
done

say "Sealing and signing the image"
run() { echo "\$ $*"; "$@"; }
run $ls sign "oci:$work/image" --cert "$work/keys/publisher.crt" --key "$work/keys/publisher.key" \
    --identity registry.example.com/demo/app,127.0.0.1:5000/demo/app --sequence 1
run $ls verify "oci:$work/image" --trust "$work/keys/publisher.crt" | cut -c 1-100

say "In a VM with a stock Debian kernel: mounted verified, then attacked; with podman; from a registry; with hooks; for a user"
rm -rf "$work/installed"
make --no-print-directory install-hooks "DESTDIR=$work/installed"
cat >"$work/guest" <<END
export LAYERSEAL_DEMO_COLOURS=$colours
sh ./guest.sh && sh ./podman.sh && sh ./registry.sh && sh ./hooks.sh && sh ./rootless.sh
END
# It takes three minutes here, and several times that where the machine is slow.
sh tests/vm/run.sh --timeout 3000 --disk-mb 3072 "$work/guest" tests/demo/table.sh tests/demo/guest.sh \
    tests/demo/podman.sh tests/demo/registry.sh tests/demo/hooks.sh tests/demo/rootless.sh $ls "$work/image" "$work/keys" "$work/installed"

say "Without a VM"
cat <<'END'
On a host whose kernel has fs-verity, with the vault on ext4 (tune2fs -O verity DEVICE) or btrfs:
    layerseal doctor
    mkdir /mnt/app
    layerseal pull oci:target/demo/image --name app --require-signature --trust target/demo/keys/publisher.crt
    layerseal mount app /mnt/app --require-signature --trust target/demo/keys/publisher.crt
    chroot /mnt/app /bin/bash --version
    layerseal umount /mnt/app
END
