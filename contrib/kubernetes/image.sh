#!/bin/sh
# Makes the installer's image: the two programs, the drop-in of CRI-O, install.sh, and a static busybox as its shell (of the
# package busybox-static). From nothing: no registry is asked, and the programs run in the node's root, with its libraries.
#
# usage: image.sh DIRECTORY-OF-THE-PROGRAMS NAME
set -eu
here=$(cd "$(dirname "$0")" && pwd)
from=$1
name=$2

die() { echo "image: $*" >&2; exit 1; }

busybox=${BUSYBOX:-$(command -v busybox)} || die "needs busybox-static"
engine=${ENGINE:-$(command -v podman || command -v buildah)} || die "needs podman or buildah"
context=$(mktemp -d "${TMPDIR:-/tmp}/layerseal-image.XXXXXX")
trap 'rm -rf "$context"' EXIT
umask 022
mkdir -p "$context/root/bin" "$context/root/layerseal" "$context/root/config" "$context/root/host" "$context/root/tmp"
cp "$busybox" "$context/root/bin/busybox"
# Another root is where it shows whether it needs libraries.
chroot "$context/root" /bin/busybox true 2>/dev/null || [ "$(id -u)" != 0 ] || die "$busybox is not static: needs busybox-static"
for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$context/root/bin/$applet"
done
cp "$from/layerseal" "$from/layerseal-runtime" "$here/../crio/10-layerseal-runtime.conf" "$here/install.sh" \
    "$context/root/layerseal/"
chmod 755 "$context/root/bin/busybox" "$context/root/layerseal/"layerseal* "$context/root/layerseal/install.sh"
cp "$here/Containerfile" "$context/"
"$engine" build --tag "$name" "$context"
