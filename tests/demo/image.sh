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

download() { apt-get -qq -o APT::Sandbox::User=root download "$@"; }

# unpack ROOT PACKAGE...: as on a merged-/usr system, whatever the package says.
unpack() {
    root=$1
    shift
    mkdir -p "$root/usr"
    for package; do
        rm -rf "$tmp/package"
        dpkg-deb -x "$debs/$package"_*.deb "$tmp/package"
        for name in bin sbin lib lib32 lib64 libx32; do
            if [ -L "$tmp/package/$name" ]; then
                rm "$tmp/package/$name"
            elif [ -d "$tmp/package/$name" ]; then
                mkdir -p "$root/usr/$name"
                cp -a "$tmp/package/$name/." "$root/usr/$name"
                rm -r "$tmp/package/$name"
            fi
        done
        cp -a "$tmp/package/." "$root"
    done
}

finish_base_layer() {
    for name in bin lib lib64 sbin; do ln -s "usr/$name" "$1/$name"; done
    mkdir -p "$1/dev" "$1/proc" "$1/sys" "$1/run" "$1/tmp"
    chmod 1777 "$1/tmp"
    [ -e "$1/usr/bin/sh" ] || ln -s dash "$1/usr/bin/sh"
    for name in cat cp cut date echo env grep head id ls mkdir mount mv ps rm sed sleep sort stat tail touch true uname wc; do
        [ -e "$1/usr/bin/$name" ] || ln -s busybox "$1/usr/bin/$name"
    done
    printf '%s\n' root:x:0:0:root:/root:/bin/sh app:x:1000:1000:app:/app:/bin/sh >"$1/etc/passwd"
    printf '%s\n' root:x:0: app:x:1000: >"$1/etc/group"
}

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

# pack ROOT SUFFIX CREATED_BY: files the layer in the layout and notes it for
# the manifest and the configuration. Sorted, a directory precedes its content.
pack() {
    find "$1" -mindepth 1 -maxdepth 1 -printf '%P\0' | sort -z |
        tar --format=gnu --sort=name --numeric-owner --owner=0 --group=0 --mtime="$created" \
            -cf "$tmp/layer" -C "$1" --null --files-from=-
    diff_id=$(sha256sum <"$tmp/layer" | cut -d' ' -f1)
    case $2 in
        +gzip) gzip -n -c "$tmp/layer" ;;
        +zstd) zstd -q -c "$tmp/layer" ;;
        *) cat "$tmp/layer" ;;
    esac >"$tmp/blob"
    layers="$layers${layers:+,}$(descriptor "$tmp/blob" "application/vnd.oci.image.layer.v1.tar$2")"
    diff_ids="$diff_ids${diff_ids:+,}\"sha256:$diff_id\""
    history="$history${history:+,}{\"created\":\"$created\",\"created_by\":\"$3\"}"
}

# descriptor FILE TYPE: moves FILE among the blobs and prints its descriptor.
descriptor() {
    digest=$(sha256sum <"$1" | cut -d' ' -f1)
    size=$(wc -c <"$1")
    mv "$1" "$layout/blobs/sha256/$digest"
    printf '{"mediaType":"%s","digest":"sha256:%s","size":%d}' "$2" "$digest" "$size"
}

write_metadata() {
    architecture=$(dpkg --print-architecture)
    printf '%s' "{\"created\":\"$created\",\"architecture\":\"$architecture\",\"os\":\"linux\"," \
        '"config":{"Env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["/app/hello"],"WorkingDir":"/app"},' \
        "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[$diff_ids]},\"history\":[$history]}" >"$tmp/config"
    config=$(descriptor "$tmp/config" application/vnd.oci.image.config.v1+json)
    printf '%s' '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",' \
        "\"config\":$config,\"layers\":[$layers]}" >"$tmp/manifest"
    manifest=$(descriptor "$tmp/manifest" application/vnd.oci.image.manifest.v1+json)
    printf '%s' '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[' \
        "${manifest%\}}" ',"annotations":{"org.opencontainers.image.ref.name":"latest"}}]}' >"$layout/index.json"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
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
layout=$tmp/layout
layers='' diff_ids='' history=''
mkdir -p "$layout/blobs/sha256"

fetch
# shellcheck disable=SC2086  # lists of names
unpack "$tmp/1" $base
finish_base_layer "$tmp/1"
# shellcheck disable=SC2086  # lists of names
unpack "$tmp/2" $programs
app_layer "$tmp/3"
pack "$tmp/1" '' 'Debian base'
pack "$tmp/2" +gzip 'bash, perl, openssl'
pack "$tmp/3" +zstd '/app'
write_metadata
rm -rf "$out"
mv "$layout" "$out"
