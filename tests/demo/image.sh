#!/bin/sh
# Makes a real three-layer OCI image layout, tag `latest`, in OUTDIR:
#
#   1  tar        a small Debian: libc, dash, busybox
#   2  tar+gzip   bash, perl and openssl with their libraries
#   3  tar+zstd   /app; removes one file of layer 1 and replaces another
#
# The same packages give the same bytes. They come from the machine's own apt
# and are kept in target/demo, so that only the first run needs the network.
#
# usage: image.sh OUTDIR
set -eu
umask 022
export LC_ALL=C

start=$PWD
debs=$(dirname "$0")/../../target/demo
# shellcheck source=SCRIPTDIR/../support/oci-layout.sh
. "$(dirname "$0")/../support/oci-layout.sh"
created=2024-01-01T00:00:00Z

base='base-files libc6 dash busybox'
programs='bash libtinfo6 perl-base libcrypt1 openssl zlib1g libzstd1'
# shellcheck disable=SC1091  # there on every Debian
case $(. /etc/os-release && echo "$VERSION_ID") in
    12) programs="$programs libssl3" ;;
    *) programs="$programs libssl3t64" ;; # renamed in Debian 13
esac

die() { echo "demo: $*" >&2; exit 1; }

fetch() {
    missing=''
    for package in $base $programs; do
        [ -e "$(echo "$debs/$package"_*.deb)" ] || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    echo "demo: fetching Debian packages (a few seconds)"
    mkdir "$tmp/debs"
    cd "$tmp/debs"
    # Lists that are absent or older than the mirror need an update first.
    # shellcheck disable=SC2086  # a list of names
    download $missing 2>/dev/null || { apt-get -qq update && download $missing; } || die "apt could not fetch$missing"
    cd "$start"
    mv "$tmp"/debs/*.deb "$debs"
}

# A small image has no coreutils.
add_commands() {
    for name in cat cp cut date echo env grep head id ls mkdir mount mv ps rm sed sleep sort stat tail touch true uname wc; do
        [ -e "$1/usr/bin/$name" ] || ln -s busybox "$1/usr/bin/$name"
    done
    printf '%s\n' root:x:0:0:root:/root:/bin/sh app:x:1000:1000:app:/app:/bin/sh >"$1/etc/passwd"
    printf '%s\n' root:x:0: app:x:1000: >"$1/etc/group"
}

download() { apt-get -qq -o APT::Sandbox::User=root download "$@"; }

app_layer() {
    mkdir -p "$1/app/data" "$1/etc"
    cat >"$1/app/hello" <<'END'
#!/bin/bash
echo "hello from $(. /etc/os-release && echo "$NAME"), bash $BASH_VERSION"
echo "$(wc -l </app/data/table) lines, settings: $(cat /etc/demo.conf)"
END
    chmod 755 "$1/app/hello"
    seq -f 'line %06g of a table that spans many blocks' 60000 >"$1/app/data/table"
    : >"$1/app/data/empty"
    echo small >"$1/app/data/small"
    ln "$1/app/data/table" "$1/app/data/table.link"
    ln -s data/small "$1/app/current"
    echo 'mode=demo' >"$1/etc/demo.conf"
    echo 'the demo image' >"$1/etc/issue"
    : >"$1/etc/.wh.issue.net"
}

[ $# -eq 1 ] || { echo "usage: image.sh OUTDIR" >&2; exit 2; }
out=$1
[ ! -e "$out" ] || [ -e "$out/oci-layout" ] || die "$out exists and is not an image layout"
mkdir -p "$debs" "$(dirname "$out")"
debs=$(cd "$debs" && pwd)
out=$(realpath "$out")
tmp=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP
new_layout "$tmp/layout"

fetch
# shellcheck disable=SC2086  # lists of names
unpack "$tmp/1" $base
finish_base_layer "$tmp/1"
add_commands "$tmp/1"
# shellcheck disable=SC2086  # lists of names
unpack "$tmp/2" $programs
app_layer "$tmp/3"
pack "$tmp/1" '' 'Debian base'
pack "$tmp/2" +gzip 'bash, perl, openssl'
pack "$tmp/3" +zstd '/app'
write_metadata '{"Env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["/app/hello"],"WorkingDir":"/app"}'
rm -rf "$out"
mv "$layout" "$out"
