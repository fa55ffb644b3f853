#!/bin/sh
# layerseal for arm64, with the cross compiler and the Rust of Debian's next release, unpacked beneath target/arm64 (1.2 GB)
# and run in a root of their own. Crates are those that this machine's cargo fetches.
#
#   arm64.sh check   both programs are compiled, and nothing is linked: a part of `make check`
#   arm64.sh test    both are built and run by qemu, beside those for this machine: digests, seals, and the tests of what hashes
#                    and of what verifies, on a processor with all of ARM's instructions and on one without those for SHA-512
#
# Where the toolchain cannot be had, a line says so, which tests/run.sh counts as skipped; what does not compile is a failure.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
dir=$top/target/arm64
target=aarch64-unknown-linux-gnu
cargo=${CARGO:-cargo}
case ${1-} in check | test) ;; *) echo "usage: arm64.sh check | test" >&2; exit 2 ;; esac

skip() {
    echo "SKIPPED the programs for arm64: $*" | tee "$dir/skipped"
    exit 0
}

# What runs here, then what is linked with there; only what those need, and of what runs there no compiler.
host='cargo gcc gcc-aarch64-linux-gnu libc6-dev libc6-dev-arm64-cross pkgconf rustc'
other='libssl-dev:arm64 libstd-rust-dev:arm64'

# fetch ROOT PACKAGE...
fetch() {
    root=$1
    shift
    mkdir -p "$tmp/debs" "$root/usr"
    for link in bin lib lib64; do ln -s "usr/$link" "$root/$link"; done
    sh "$top/tests/vm/packages.sh" private-apt forky "$tmp/apt" arm64 || return
    export APT_CONFIG="$tmp/apt/conf"
    apt-get --simulate --no-install-recommends install "$@" >"$tmp/names" || return
    sed -nE 's/^Inst ([^ ]*) .*/\1/p' "$tmp/names" | grep -vE '^(lib(llvm|z3|xml2|edit|stdc)[^:]*|llvm[^:]*):arm64$' >"$tmp/list"
    # shellcheck disable=SC2046  # a list of names
    (cd "$tmp/debs" && apt-get -qq download $(cat "$tmp/list")) || return
    # The packages of one system may be unpacked in any order; two at a time, since unpacking takes most of the time.
    # shellcheck disable=SC2016  # expanded inside
    find "$tmp/debs" -name '*.deb' -print0 | xargs -0 -n 4 -P 2 sh -euc '
        root=$1
        shift
        for deb; do
            dpkg-deb --fsys-tarfile "$deb" | tar -x --skip-old-files --exclude="./usr/share/doc" --exclude="./usr/share/locale" \
                --exclude="./usr/share/man" -C "$root"
        done' sh "$root" || return
    unset APT_CONFIG
    rm -rf "$tmp/debs" "$tmp/apt"
}

# part NAME PACKAGE...: once for each recipe, and an interrupted one counts for nothing.
part() {
    name=$1
    shift
    want=$({ echo "$*"; sed -n '/^fetch() {/,/^}/p' "$top/tests/arm64.sh"; } | cksum)
    [ "$(cat "$dir/$name/recipe" 2>/dev/null)" != "$want" ] || return 0
    echo "arm64: fetching $name"
    rm -rf --one-file-system "${dir:?}/$name"
    fetch "$tmp/part" "$@" || return
    echo "$want" >"$tmp/part/recipe"
    mv "$tmp/part" "$dir/$name"
}

# Runs cargo in the root, offline, on the sources where they are.
compile() {
    root=$dir/toolchain
    home=${CARGO_HOME:-$HOME/.cargo}
    mkdir -p "$root/cargo" "$root/built" "$root/proc" "$root/dev" "$root/tmp" "$dir/built"
    ln -sf gcc "$root/usr/bin/cc"
    # shellcheck disable=SC2016  # expanded inside
    unshare -m --propagation private sh -euc '
        top=$1 home=$2 root=$3 built=$4
        shift 4
        mount -t tmpfs tmpfs "$root/tmp"
        # The sources may be beneath /tmp.
        mkdir -p "$root$top"
        mount --bind -o ro "$top" "$root$top"
        mount --bind "$home" "$root/cargo"
        mount --bind "$built" "$root/built"
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        exec chroot "$root" /usr/bin/env -i PATH=/usr/bin HOME=/tmp CARGO_HOME=/cargo CARGO_TARGET_DIR=/built CARGO_NET_OFFLINE=true \
            CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 CARGO_INCREMENTAL=0 RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc \
            CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
            PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig \
            /usr/bin/cargo "$@"
    ' sh "$top" "$home" "$root" "$dir/built" "$@" --quiet --locked --manifest-path "$top/Cargo.toml" --target "$target"
}

mkdir -p "$dir"
exec 9>"$dir/lock"
flock 9
rm -f "$dir/skipped"
[ "$(id -u)" = 0 ] || skip "not root"
[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || skip "this machine is not amd64"
tmp=$(mktemp -d "$dir/tmp.XXXXXX")
trap 'rm -rf --one-file-system "$tmp"' EXIT
trap 'exit 130' INT TERM HUP
# shellcheck disable=SC2086  # lists of names
part toolchain $host $other coreutils || skip "its toolchain cannot be fetched"
(cd "$top" && $cargo fetch --quiet --locked --target "$target")
if [ "$1" = check ]; then
    compile check --bins
    echo "arm64: both programs compile"
    exit 0
fi

# Debian's qemu for programs is static: it runs here, and finds the others' libraries beneath one directory.
part qemu qemu-user || skip "qemu cannot be fetched"
sysroot=$dir/sysroot
mkdir -p "$sysroot/usr/lib"
ln -sfn usr/lib "$sysroot/lib"
ln -sfn ../../../toolchain/usr/lib/aarch64-linux-gnu "$sysroot/usr/lib/aarch64-linux-gnu"
ln -sfn aarch64-linux-gnu/ld-linux-aarch64.so.1 "$sysroot/usr/lib/ld-linux-aarch64.so.1"
compile build --bins
compile test --no-run --lib --test vectors --test pkcs7 --message-format=json >"$tmp/built"
(cd "$top" && $cargo build --quiet --locked --bins)
here=${CARGO_TARGET_DIR:-$top/target}/debug
there=$dir/built/$target/debug
failed=0

# under CPU PROGRAM...
under() {
    cpu=$1
    shift
    "$dir/qemu/usr/bin/qemu-aarch64" -cpu "$cpu" -L "$sysroot" "$@"
}
# same WHAT WORD...: both programs say the same of this, and neither fails.
same() {
    what=$1
    shift
    "$here/layerseal" "$@" >"$tmp/here" 2>&1 || { echo "FAIL $what: here: $(cat "$tmp/here")"; failed=1; return; }
    under "$cpu" "$there/layerseal" "$@" >"$tmp/there" 2>&1 || { echo "FAIL $what: there: $(cat "$tmp/there")"; failed=1; return; }
    cmp -s "$tmp/here" "$tmp/there" || { echo "FAIL $what"; diff "$tmp/here" "$tmp/there"; failed=1; return; }
    echo "ok   $what, $(tail -n 1 "$tmp/there" | cut -c 1-60)"
}

openssl req -newkey rsa:2048 -nodes -keyout "$tmp/key" -x509 -days 30 -subj /CN=acme -out "$tmp/crt" 2>/dev/null
mkdir -p "$tmp/tree/usr"
head -c 20000000 /dev/zero | openssl enc -aes-128-ctr -K 00 -iv 00 -nosalt 2>/dev/null >"$tmp/tree/usr/large"
head -c 70000 "$tmp/tree/usr/large" >"$tmp/tree/usr/small"
# Instructions for SHA-256 and SHA-512, and for SHA-256 alone.
for cpu in max cortex-a57; do
    echo "arm64: $cpu"
    same "$cpu: version" --version
    # It becomes `layerseal`, for which the kernel needs to be told of qemu; that names what it would become, and refuses.
    mkdir -p "$tmp/$cpu"
    cp "$there/layerseal-runtime" "$tmp/$cpu"
    printf '#!/bin/sh\nexec "%s" -cpu %s -L "%s" "%s" "$@"\n' "$dir/qemu/usr/bin/qemu-aarch64" "$cpu" "$sysroot" "$there/layerseal" \
        >"$tmp/$cpu/layerseal"
    chmod 755 "$tmp/$cpu/layerseal"
    "$here/layerseal-runtime" none >"$tmp/here" 2>&1 || true
    under "$cpu" "$tmp/$cpu/layerseal-runtime" none >"$tmp/there" 2>&1 || true
    if grep -q R-F07 "$tmp/there" && cmp -s "$tmp/here" "$tmp/there"; then
        echo "ok   $cpu: layerseal-runtime"
    else
        echo "FAIL $cpu: layerseal-runtime: $(cat "$tmp/there")"
        failed=1
    fi
    for algorithm in sha256 sha512; do
        same "$cpu: digest of a directory, $algorithm" digest --directory "$tmp/tree" --algorithm "$algorithm"
        for image in edge-opq-late edge-noparent-upper; do
            same "$cpu: digests of an image, $algorithm" digest "oci:$top/tests/vectors/oci/$image" --algorithm "$algorithm"
        done
    done
    # A seal made on either is the other's, to the byte.
    for by in here there; do
        rm -rf "${tmp:?}/$by-image"
        cp -a "$top/tests/vectors/oci/edge-opq-late" "$tmp/$by-image"
    done
    sign="--cert $tmp/crt --key $tmp/key --identity registry.example.com/acme/app"
    # shellcheck disable=SC2086  # words
    "$here/layerseal" sign "oci:$tmp/here-image" $sign >/dev/null
    # shellcheck disable=SC2086  # words
    under "$cpu" "$there/layerseal" sign "oci:$tmp/there-image" $sign >/dev/null
    if diff -r "$tmp/here-image/blobs" "$tmp/there-image/blobs" >/dev/null; then
        echo "ok   $cpu: a seal, byte for byte"
    else
        echo "FAIL $cpu: seals differ"
        failed=1
    fi
    same "$cpu: a seal is verified" verify "oci:$tmp/here-image" --trust "$tmp/crt" --identity registry.example.com/acme/app
    for of in layerseal:sha_lanes:: layerseal:digest:: vectors: pkcs7:verify::; do
        tests=$(sed -n 's|.*"executable":"/built/\([^"]*/deps/'"${of%%:*}"'-[^"]*\)".*|\1|p' "$tmp/built" | tail -n 1)
        LAYERSEAL_BIN=$tmp/$cpu/layerseal under "$cpu" "$dir/built/$tests" ${of#*:} >"$tmp/said" 2>&1 || cat "$tmp/said"
        # Some ran, and none failed.
        if ran=$(grep '^test result: ok\. [1-9]' "$tmp/said"); then
            echo "ok   $cpu: tests of ${of%%:*} ${of#*:}: ${ran#test result: ok. }"
        else
            echo "FAIL $cpu: tests of ${of%%:*} ${of#*:}"
            failed=1
        fi
    done
done
[ "$failed" = 0 ] || exit 1
echo "arm64: both programs work"
