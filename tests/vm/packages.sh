#!/bin/sh
# Installs what is missing on a fresh Debian 12 or 13, as root.
#
#   packages.sh build    what compiling needs
#   packages.sh check    what looking at shell scripts needs
#   packages.sh rpm      what looking at the package for RPM needs
#   packages.sh fuzz     what fuzzing needs besides
#   packages.sh vm       what the tests, the guest and the demo image need, podman among it
#   packages.sh mirror   print the URI of the machine's own Debian mirror
#   packages.sh bench    what the benchmarks need besides that of vm
#   packages.sh private-apt SUITE DIR [ARCHITECTURE]
#                        make an apt in DIR that sees this suite alone, with packages of one more architecture: APT_CONFIG=DIR/conf
#   packages.sh fetch SUITE DIR PACKAGE...
#                        download packages and all that they depend on into DIR, as for an empty system,
#                        and print their names; nothing is installed
set -eu

build='ca-certificates gcc libc6-dev libssl-dev make pkg-config'
vm='busybox-static conmon cpio crun debian-archive-keyring e2fsprogs erofs-utils fsverity fuse-overlayfs gzip kmod
    mmdebstrap openssl podman runc skopeo strace tar uidmap util-linux xfsprogs xz-utils zstd'
# What the crate composefs-ctl links with, and what makes images for the benchmarks.
bench='btrfs-progs libzstd-dev python3-minimal zlib1g-dev'

say() { echo "packages: $*"; }
die() { say "$*" >&2; exit 1; }

# shellcheck disable=SC1091  # there on every Debian
codename() { . /etc/os-release && echo "$VERSION_CODENAME"; }

# The mirror is whatever this machine already uses: the first enabled entry
# that serves the release itself (not its -security or -updates suites).
mirror() {
    for file in /etc/apt/sources.list.d/*.sources; do
        # The blank line keeps two files from becoming one stanza.
        [ ! -r "$file" ] || { grep -v '^#' "$file"; echo; }
    done | awk -v release="$(codename)" '
        function stanza() { if (on && has && uri != "") print uri; on = 1; has = 0; uri = "" }
        BEGIN { on = 1 }
        NF == 0 { stanza(); next }
        /^[^ \t]/ { field = tolower($1) }
        field == "enabled:" && tolower($2) == "no" { on = 0 }
        field == "uris:" && uri == "" { uri = $2 }
        field == "suites:" { for (i = 1; i <= NF; i++) if ($i == release) has = 1 }
        END { stanza() }'

    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ ! -r "$file" ] || sed -E 's/^deb[ \t]+\[[^]]*\]/deb/' "$file"
    done | awk -v release="$(codename)" '$1 == "deb" && $3 == release { print $2 }'
}

missing() {
    for package; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s ' "$package"
    done
}

# Quiet, unless it fails.
apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" >"$tmp/log" 2>&1
}

# --no-remove: making room by removing what the owner installed is not ours to do.
install() {
    apt install --simulate --no-install-recommends --no-remove "$@" &&
        apt install --yes --no-install-recommends --no-remove "$@"
}

# The lists may be absent (a container image) or older than the mirror, so a
# first failure only means that it is time for an update.
from_release() {
    install "$@" || { apt update || true; install "$@"; }
}

# Bookworm's own qemu (7.2) emulates wrongly: with it one boot in six of the
# guest dies of a memory fault at a place that never was at fault. The list for
# backports stays private: /etc/apt is not ours.
from_backports() {
    uri=$("$0" mirror)
    [ -n "$uri" ] || die "no Debian mirror for $(codename) found in /etc/apt"
    suite=$(codename)-backports
    mkdir -p "$tmp/parts" "$tmp/lists/partial"
    for name in "$(codename)" "$suite"; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $name main"
    done >"$tmp/parts/private.list"
    cat >"$tmp/apt.conf" <<END
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$tmp/parts";
Dir::State::lists "$tmp/lists";
APT::Sandbox::User "root";
APT::Default-Release "$suite";
END
    export APT_CONFIG="$tmp/apt.conf"
    apt update && install "$@"
}

# private_apt SUITE DIR [ARCHITECTURE]: an apt in DIR that sees one suite (with the release below it) and no installed package,
# and leaves the machine's alone.
private_apt() {
    uri=$("$0" mirror)
    [ -n "$uri" ] || die "no Debian mirror for $(codename) found in /etc/apt"
    mkdir -p "$2/lists/partial" "$2/cache/archives/partial"
    : >"$2/status"
    for name in "$1" "${1%-backports}"; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $name main"
    done | sort -u >"$2/sources.list"
    cat >"$2/conf" <<END
APT::Architecture "$(dpkg --print-architecture)";
APT::Architectures { "$(dpkg --print-architecture)"; ${3:+"\"$3\";"} };
APT::Default-Release "$1";
APT::Sandbox::User "root";
Acquire::Check-Valid-Until "false";
Dir::Cache "$2/cache";
Dir::Etc::sourcelist "$2/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "$2/lists";
Dir::State::status "$2/status";
END
    export APT_CONFIG="$2/conf"
    apt update || { cat "$tmp/log" >&2; die "no lists of $1"; }
}

# The lists stay in DIR/apt, and with them the versions.
fetch() {
    into=$(realpath "$2")
    [ -e "$into/apt/fresh" ] || { private_apt "$1" "$into/apt" && touch "$into/apt/fresh"; }
    export APT_CONFIG="$into/apt/conf"
    shift 2
    apt-get --simulate --no-install-recommends install "$@" | sed -n 's/^Inst \([^ ]*\) .*/\1/p' | sort >"$tmp/names"
    while read -r name; do
        [ -e "$(echo "$into/${name}"_*.deb)" ] || echo "$name"
    done <"$tmp/names" >"$tmp/missing"
    # shellcheck disable=SC2046  # a list of names
    [ ! -s "$tmp/missing" ] || (cd "$into" && apt download $(cat "$tmp/missing")) || { cat "$tmp/log" >&2; die "could not download"; }
    cat "$tmp/names"
}

# $1 says where from, the rest what.
add() {
    [ "$(id -u)" = 0 ] || { shift; die "missing: $* (run this as root)"; }
    from=$1
    shift
    say "installing $*"
    "$from" "$@" || { cat "$tmp/log" >&2; die "could not install $*"; }
}

need() {
    todo=$(missing "$@")
    # shellcheck disable=SC2086  # a list of names
    [ -z "$todo" ] || add from_release $todo
}

need_qemu() {
    version=$(dpkg-query -W -f '${Version}' qemu-system-x86 2>/dev/null || echo 0)
    if [ "$(codename)" != bookworm ]; then
        need qemu-system-x86
    elif dpkg --compare-versions "$version" lt 1:10; then
        add from_backports qemu-system-x86
    fi
}

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP

# shellcheck disable=SC2086  # lists of names
case ${1-} in
    build) need $build ;;
    check) need shellcheck g++ ;;
    rpm) need rpm ;;
    fuzz) need g++ ;;
    vm) need $vm && need_qemu ;;
    bench) need $vm $bench ;;
    mirror) mirror | head -n 1 ;;
    private-apt) private_apt "$2" "$3" "${4-}" ;;
    fetch) shift && fetch "$@" ;;
    *) echo "usage: packages.sh build | check | rpm | fuzz | vm | bench | mirror | private-apt SUITE DIR [ARCHITECTURE] | fetch SUITE DIR PACKAGE..." >&2; exit 2 ;;
esac
