#!/bin/sh
# Brings what the registry tests need into target/tools (or $LAYERSEAL_TOOLS_DIR), and installs nothing:
#
#   skopeo-trixie, skopeo-forky   skopeo of Debian 13 (proxy protocol 0.2.6) and of the release after it
#                                 (0.2.8: GetRawBlob), each with its own C library
#   skopeo-old                    that of Debian 12 (0.2.3), which must be refused
#   oras                          an independent client of the referrers API
#   docker-registry               a registry without that API
#   ferro-oci-server              a registry with it
#
# usage: tools.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
dir=${LAYERSEAL_TOOLS_DIR:-$top/target/tools}
ferro=1.0.0

say() { echo "tools: $*"; }
die() { say "$*" >&2; exit 1; }
quietly() { "$@" >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; die "failed: $1"; }; }

# unpack SUITE DIRECTORY PACKAGE [LIBRARIES]: the package, and of what it depends on the libraries whose
# names match.
unpack() {
    mkdir -p "$dir/$2"
    rm -rf "$tmp/apt"
    mkdir -p "$tmp/apt/debs"
    quietly sh "$top/tests/vm/packages.sh" private-apt "$1" "$tmp/apt"
    names=$3
    [ -z "${4-}" ] || names="$names $(APT_CONFIG="$tmp/apt/conf" apt-get --simulate --no-install-recommends install "$3" |
        sed -nE "s/^Inst (lib($4)[^ ]*) .*/\\1/p" | xargs)"
    # shellcheck disable=SC2086  # a list of names
    (cd "$tmp/apt/debs" && APT_CONFIG="$tmp/apt/conf" quietly apt-get -qq download $names)
    for deb in "$tmp"/apt/debs/*.deb; do dpkg-deb -x "$deb" "$dir/$2"; done
}

# A program with libraries of another release runs by that release's loader. What it starts (credential
# helpers) is the machine's own and must not see those libraries: no LD_LIBRARY_PATH.
wrapper() {
    root=$dir/$1
    loader=$(find "$root" -name 'ld-linux-x86-64.so.2' | head -n 1)
    [ -n "$loader" ] || die "no loader in $1"
    libraries=$(find "$root" -type d -name x86_64-linux-gnu | paste -sd : -)
    mkdir -p "$root/bin"
    cat >"$root/bin/skopeo" <<SH
#!/bin/sh
exec "$loader" --library-path "$libraries" --argv0 skopeo "$root/usr/bin/skopeo" "\$@"
SH
    chmod 755 "$root/bin/skopeo"
}

# part NAME COMMAND...: once for each recipe, and an interrupted one counts for nothing.
part() {
    want=$(cksum <"$here/tools.sh")
    [ "$(cat "$dir/$1/recipe" 2>/dev/null)" != "$want" ] || return 0
    say "fetching $1"
    rm -rf "${dir:?}/$1"
    name=$1
    shift
    "$@"
    echo "$want" >"$dir/$name/recipe"
}

skopeo() {
    unpack "$1" "$2" skopeo 'c6|gcc-s1|gpgme|assuan|gpg-error|sqlite3|devmapper|udev|selinux|pcre2'
    wrapper "$2"
}
ferro() {
    mkdir -p "$dir/ferro-oci-server"
    CARGO_TARGET_DIR="$tmp/target" quietly "${CARGO:-cargo}" install ferro-oci-server --version "$ferro" --locked --debug \
        --root "$dir/ferro-oci-server"
}

mkdir -p "$dir"
exec 9>"$dir/lock"
flock 9
tmp=$(mktemp -d "$dir/tmp.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP
part skopeo-trixie skopeo trixie skopeo-trixie
part skopeo-forky skopeo forky skopeo-forky
part skopeo-old skopeo bookworm skopeo-old
part oras unpack trixie oras oras
part docker-registry unpack bookworm docker-registry docker-registry
part ferro-oci-server ferro
