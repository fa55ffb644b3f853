#!/bin/sh
# The units under systemd, on Debian 13: tests/vm/suite.sh runs it, tests/vm/suite.sh --systemd alone.
#
# systemd is the first process of the guest, and layerseal installed as `make install` does. Users start containers through
# the service in its sandbox; see guest/systemd.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
here=$top/tests/vm
cd "$top"
tmp=$(mktemp -d "${TMPDIR:-/tmp}/layerseal-systemd.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
mkdir "$tmp/payload" "$tmp/bin"

sh "$here/programs.sh" "$tmp/bin"
make --silent --old-file=release install DESTDIR="$tmp/payload/installed" PREFIX=/usr BINARY="$tmp/bin/layerseal"

# Two images: busybox, a file that says which, and one that is large enough to be an object.
# shellcheck disable=SC2034  # for oci-layout.sh
created=2026-01-01T00:00:00Z
# shellcheck source=tests/support/oci-layout.sh
. "$top/tests/support/oci-layout.sh"
for image in app other; do
    new_layout "$tmp/payload/$image"
    mkdir -p "$tmp/$image/usr/bin" "$tmp/$image/usr/share"
    cp /bin/busybox "$tmp/$image/usr/bin/busybox"
    for tool in sh cat grep id ls sleep touch; do ln -s busybox "$tmp/$image/usr/bin/$tool"; done
    finish_base_layer "$tmp/$image"
    echo "the $image" >"$tmp/$image/etc/app"
    seq 20000 >"$tmp/$image/usr/share/numbers"
    pack "$tmp/$image" +gzip files
    write_metadata '{"Env":["PATH=/usr/bin"]}'
done
openssl req -newkey rsa:2048 -nodes -keyout "$tmp/signer.key" -x509 -days 30 -subj /CN=acme -out "$tmp/payload/signer.crt" 2>/dev/null
"$tmp/bin/layerseal" sign "oci:$tmp/payload/app" --cert "$tmp/payload/signer.crt" --key "$tmp/signer.key" \
    --identity registry.example.com/acme/app >/dev/null

echo "vm: the units under systemd"
cp "$here/guest/systemd" "$tmp/payload/systemd-run"
sh "$here/run.sh" --kernel 6.12 --root systemd "$@" --timeout 1500 --disk-mb 64 \
    "$tmp/payload/systemd-run" "$tmp/payload/installed" "$tmp/payload/app" "$tmp/payload/other" "$tmp/payload/signer.crt"
