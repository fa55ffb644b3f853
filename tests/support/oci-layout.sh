# Shell functions that make an OCI image layout of Debian packages; to be sourced.
#
# The caller sets tmp (a directory of its own), debs (where the packages are) and created (an RFC 3339
# time), and calls new_layout, then pack for each layer, then write_metadata.
# shellcheck shell=sh disable=SC2154  # set by whoever sources this

# new_layout DIR
new_layout() {
    layout=$1 layers='' diff_ids='' history=''
    mkdir -p "$layout/blobs/sha256"
}

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

# finish_base_layer ROOT: what a container expects to find.
finish_base_layer() {
    for name in bin lib lib64 sbin; do ln -s "usr/$name" "$1/$name"; done
    mkdir -p "$1/dev" "$1/etc" "$1/proc" "$1/sys" "$1/run" "$1/tmp"
    chmod 1777 "$1/tmp"
    [ -e "$1/usr/bin/sh" ] || ln -s dash "$1/usr/bin/sh"
}

# pack ROOT SUFFIX CREATED_BY: makes a layer of a directory. Sorted, a directory precedes its content.
pack() {
    find "$1" -mindepth 1 -maxdepth 1 -printf '%P\0' | sort -z |
        tar --format=gnu --sort=name --numeric-owner --owner=0 --group=0 --mtime="$created" \
            -cf "$tmp/layer" -C "$1" --null --files-from=-
    add_layer "$3" "$2"
}

# add_layer CREATED_BY [SUFFIX]: files $tmp/layer in the layout and notes it for the manifest and the configuration.
add_layer() {
    diff_id=$(sha256sum <"$tmp/layer" | cut -d' ' -f1)
    case ${2-} in
        +gzip) gzip -n -c "$tmp/layer" >"$tmp/blob" ;;
        +zstd) zstd -q -c "$tmp/layer" >"$tmp/blob" ;;
        *) mv "$tmp/layer" "$tmp/blob" ;;
    esac
    layers="$layers${layers:+,}$(descriptor "$tmp/blob" "application/vnd.oci.image.layer.v1.tar${2-}")"
    diff_ids="$diff_ids${diff_ids:+,}\"sha256:$diff_id\""
    history="$history${history:+,}{\"created\":\"$created\",\"created_by\":\"$1\"}"
}

# descriptor FILE TYPE: moves FILE among the blobs and prints its descriptor.
descriptor() {
    digest=$(sha256sum <"$1" | cut -d' ' -f1)
    size=$(wc -c <"$1")
    mv "$1" "$layout/blobs/sha256/$digest"
    printf '{"mediaType":"%s","digest":"sha256:%s","size":%d}' "$2" "$digest" "$size"
}

# write_metadata CONFIG: CONFIG is the object of that name in the image's configuration.
write_metadata() {
    architecture=$(dpkg --print-architecture)
    printf '%s' "{\"created\":\"$created\",\"architecture\":\"$architecture\",\"os\":\"linux\"," \
        "\"config\":$1," \
        "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[$diff_ids]},\"history\":[$history]}" >"$tmp/config"
    config=$(descriptor "$tmp/config" application/vnd.oci.image.config.v1+json)
    printf '%s' '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",' \
        "\"config\":$config,\"layers\":[$layers]}" >"$tmp/manifest"
    manifest=$(descriptor "$tmp/manifest" application/vnd.oci.image.manifest.v1+json)
    printf '%s' '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[' \
        "${manifest%\}}" ',"annotations":{"org.opencontainers.image.ref.name":"latest"}}]}' >"$layout/index.json"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
}
