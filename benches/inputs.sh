#!/bin/sh
# Makes the images that everything is measured on, of Debian 13's packages: in OUTDIR the OCI layouts
# small-1, small-5, big-1, big-5 (one layer or five, tar) and big-5-gzip; small-10 and small-50, with
# the directories in the lowest layer and the files dealt out to all; and small.count and big.count with
# inodes and megabytes. What is there stays.
#
# usage: inputs.sh OUTDIR [small]
set -eu
umask 022
export LC_ALL=C
here=$(dirname "$0")
# shellcheck source=SCRIPTDIR/../tests/support/oci-layout.sh
. "$here/../tests/support/oci-layout.sh"
created=2024-01-01T00:00:00Z

base='base-files bash coreutils dash debianutils dpkg findutils grep gzip hostname libc-bin perl-base sed tar util-linux mawk busybox-static'
# A line for each further layer.
small='python3
perl
git python3-sympy
libc6-dev'
big='python3 perl git gcc g++ vim
golang-1.24-go ruby
libboost1.83-dev nodejs
clang-19 openjdk-21-jre-headless python3-sympy python3-django python3-twisted python3-pip'

# A layer has what its own packages need and no layer beneath it has.
layer_packages() {
    wanted=$base
    # shellcheck disable=SC2086  # a list of names
    sh "$here/../tests/vm/packages.sh" fetch trixie "$debs" $wanted >"$tmp/packages.1"
    number=1
    echo "$1" | while read -r line; do
        wanted="$wanted $line" number=$((number + 1))
        # shellcheck disable=SC2086  # a list of names
        sh "$here/../tests/vm/packages.sh" fetch trixie "$debs" $wanted >"$tmp/all"
        cat "$tmp"/packages.* | sort | comm -23 "$tmp/all" - >"$tmp/new"
        mv "$tmp/new" "$tmp/packages.$number"
    done
}

# image NAME SUFFIX ROOT...
image() {
    name=$1 suffix=$2
    shift 2
    new_layout "$tmp/layout"
    for root; do pack "$root" "$suffix" "$name"; done
    write_metadata '{"Env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["/bin/true"]}'
    rm -rf "${out:?}/$name"
    mv "$tmp/layout" "$out/$name"
}

# deal COUNT ROOT: its files to as many layers.
deal() {
    new_layout "$tmp/layout"
    rm -f "$tmp"/list.*
    (cd "$2" && find . -mindepth 1 ! -type d | sort) | awk -v n="$1" -v to="$tmp/list." '{ print > (to NR % n) }'
    number=0
    while [ "$number" -lt "$1" ]; do
        [ "$number" != 0 ] || { (cd "$2" && find . -mindepth 1 -type d | sort) | cat - "$tmp/list.0" >"$tmp/all"; mv "$tmp/all" "$tmp/list.0"; }
        tar --format=gnu --no-recursion --numeric-owner --owner=0 --group=0 --mtime="$created" -cf "$tmp/layer" -C "$2" -T "$tmp/list.$number"
        add_layer "$1 layers"
        number=$((number + 1))
    done
    write_metadata '{"Env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["/bin/true"]}'
    rm -rf "${out:?}/small-$1"
    mv "$tmp/layout" "$out/small-$1"
}

make() {
    rm -f "$tmp"/packages.*
    layer_packages "$2"
    for number in 1 2 3 4 5; do
        # shellcheck disable=SC2046  # a list of names
        unpack "$tmp/$number" $(cat "$tmp/packages.$number")
    done
    finish_base_layer "$tmp/1"
    image "$1-5" '' "$tmp/1" "$tmp/2" "$tmp/3" "$tmp/4" "$tmp/5"
    [ "$1" = small ] || image "$1-5-gzip" +gzip "$tmp/1" "$tmp/2" "$tmp/3" "$tmp/4" "$tmp/5"
    for number in 2 3 4 5; do cp -a --link "$tmp/$number/." "$tmp/1"; done
    image "$1-1" '' "$tmp/1"
    [ "$1" != small ] || { deal 10 "$tmp/1"; deal 50 "$tmp/1"; }
    echo "$(find "$tmp/1" | wc -l) $(du -sm --apparent-size "$tmp/1" | cut -f 1)" >"$out/$1.count"
    for number in 1 2 3 4 5; do rm -rf "${tmp:?}/$number"; done
}

case $#,${2:-small} in 1,* | 2,small) ;; *) echo "usage: inputs.sh OUTDIR [small]" >&2; exit 2 ;; esac
only=${2:-}
mkdir -p "$1/debs"
out=$(realpath "$1")
debs=$out/debs
tmp=$(mktemp -d "$out/make.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP
[ -e "$out/small.count" ] || { echo "bench: making the small image"; make small "$small"; }
[ -n "$only" ] || [ -e "$out/big.count" ] || { echo "bench: making the big image"; make big "$big"; }
