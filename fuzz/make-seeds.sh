#!/bin/sh
# Makes the seeds of one target, or of all: make-seeds.sh [artifact_json|binding|pkcs7_der|serve_call|store_json|tar_import]...
#
# Needs openssl, GNU tar, gzip, zstd, setcap and, for seals, the binary ($LAYERSEAL, target/debug/layerseal).
# Run it as root: some tars hold devices. Keys are thrown away and new each time, so new seeds differ
# from the old ones, which is fine.
set -eu
umask 022
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
layerseal=${LAYERSEAL:-$here/../target/debug/layerseal}
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
trap 'exit 130' INT TERM HUP
cd "$work"

empty() { rm -rf "$1" && mkdir -p "$1"; }

# --- pkcs7_der: signatures over one formatted digest (SHA-256, 32 bytes of 0x5a), most of them
# acceptable, by the certificates that are left in fuzz_targets/signers/.

certificate() { # NAME SUBJECT genpkey options...
    name=$1 subject=$2
    shift 2
    openssl genpkey "$@" -out "$name.key" 2>openssl.log
    openssl req -x509 -new -utf8 -key "$name.key" -days 36500 -subj "$subject" -out "$name.crt"
}

sign() { # SEED smime|cms SIGNER options...
    seed=$1 command=$2 signer=$3
    shift 3
    openssl "$command" -sign -binary -outform der -signer "$signer.crt" -inkey "$signer.key" \
        -in content -out "$seeds/$seed" "$@"
}

pkcs7_der() {
    signers=$here/fuzz_targets/signers
    empty "$signers"
    printf 'FSVerity\001\000\040\000' >content
    printf '%032d' 0 | tr 0 Z >>content

    certificate rsa2048 /CN=rsa -algorithm RSA -pkeyopt rsa_keygen_bits:2048
    certificate p256 /CN=p256 -algorithm EC -pkeyopt ec_paramgen_curve:P-256
    certificate p384 /CN=p384 -algorithm EC -pkeyopt ec_paramgen_curve:P-384
    certificate p521 /CN=p521 -algorithm EC -pkeyopt ec_paramgen_curve:P-521
    certificate long "/C=DE/O=Größe, Inc./OU=a+OU=b/DC=example/CN=seals/emailAddress=a@example.com" \
        -algorithm EC -pkeyopt ec_paramgen_curve:P-256
    for name in rsa2048 p256; do
        openssl x509 -in "$name.crt" -outform der -out "$signers/$name.der"
    done

    plain='-noattr -nocerts'
    # shellcheck disable=SC2086  # a list of options
    {
        sign rsa2048-sha256 smime rsa2048 $plain
        sign rsa2048-sha384 smime rsa2048 $plain -md sha384
        sign rsa2048-sha512 smime rsa2048 $plain -md sha512
        sign p256-sha256 smime p256 $plain
        sign p256-sha512 smime p256 $plain -md sha512
        sign p384-sha384 smime p384 $plain -md sha384
        sign p521-sha512 smime p521 $plain -md sha512
        sign p256-cms cms p256 $plain
        sign rsa2048-cms cms rsa2048 $plain
        sign long-name smime long $plain
    }
    sign p256-embedded smime p256 -noattr
    sign p256-embedded-two smime p256 -noattr -certfile long.crt
    # Outside of the profile.
    sign p256-attributes smime p256 -nocerts
    sign p256-attached smime p256 -noattr -nocerts -nodetach
    sign p256-keyid cms p256 -noattr -nocerts -keyid
    sign p256-sha1 smime p256 -noattr -nocerts -md sha1
}

# --- An image of two small layers, and its seal.

pack() { # TAR FORMAT options... of the directory tree/
    name=$1 format=$2
    shift 2
    [ "$format" != pax ] || set -- --pax-option=delete=atime,delete=ctime "$@"
    tar --format="$format" --sort=name --numeric-owner --owner=0 --group=0 --mtime='2024-01-01 00:00:00Z' -b 1 \
        "$@" -C tree -cf "$name" .
}

hash_of() { sha256sum "$1" | cut -d ' ' -f 1; }

# Moves FILE among the blobs and prints its descriptor; further JSON goes into it.
descriptor() { # FILE MEDIATYPE [JSON]
    digest=$(hash_of "$1")
    size=$(wc -c <"$1")
    mv "$1" "image/blobs/sha256/$digest"
    printf '{"mediaType":"%s","digest":"sha256:%s","size":%d%s}' "$2" "$digest" "$size" "${3:-}"
}

image() {
    [ ! -d image ] || return 0
    mkdir -p image/blobs/sha256 tree/usr/bin tree/etc
    printf '%0300d' 0 >tree/usr/bin/tool
    echo x=1 >tree/etc/conf
    pack lower.tar ustar
    rm -r tree
    mkdir -p tree/etc
    : >tree/etc/.wh.conf
    echo y=2 >tree/etc/new
    pack upper.tar ustar
    rm -r tree
    diff_ids="\"sha256:$(hash_of lower.tar)\",\"sha256:$(hash_of upper.tar)\""
    gzip -n upper.tar
    printf '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%s]}}' "$diff_ids" >config.json
    oci=application/vnd.oci.image
    cp config.json config
    printf '{"schemaVersion":2,"mediaType":"%s","config":%s,"layers":[%s,%s]}' "$oci.manifest.v1+json" \
        "$(descriptor config $oci.config.v1+json)" "$(descriptor lower.tar $oci.layer.v1.tar)" \
        "$(descriptor upper.tar.gz $oci.layer.v1.tar+gzip)" >manifest.json
    cp manifest.json manifest
    printf '{"schemaVersion":2,"manifests":[%s]}' "$(descriptor manifest $oci.manifest.v1+json)" >image/index.json
    printf '{"imageLayoutVersion":"1.0.0"}' >image/oci-layout
    for algorithm in sha256 sha512; do
        "$layerseal" digest oci:image --algorithm $algorithm --identity registry.example.com/acme/app \
            --identity localhost:5000/app --sequence 7 --write $algorithm >/dev/null
    done
}

binding() {
    image
    cp sha256/binding "$seeds/sha256"
    cp sha512/binding "$seeds/sha512"
    # As it stands in an image manifest, and the least there is.
    grep -v '^subject:' sha256/binding >"$seeds/inline"
    grep -Ev '^(subject|identity|layer|sequence):' sha256/binding >"$seeds/least"
    # Ten layers.
    awk '/^layer:/ { for (i = 0; i < 4; i++) print } { print }' sha256/binding >"$seeds/ten-layers"
    sed 's/sequence: 7/sequence: 18446744073709551615/' sha512/binding >"$seeds/last-sequence"
    # Outside of the canonical form.
    sed 's/sequence: 7/sequence: 07/' sha256/binding >"$seeds/leading-zero"
    sed 's/fsverity-sha256-12/fsverity-sha256-16/' sha256/binding >"$seeds/large-blocks"
}

# --- serve_call: calls to the service for users, and answers.

serve_call() {
    digest=sha256:$(printf a | sha256sum | cut -c1-64)
    printf '{"version":1,"names":["registry.example.com/acme/app:1"],"documents":[300,400,500],"seals":["%s"],%s}' "$digest" \
        '"descriptors":["erofs","objects","layer","upper","work","namespace"],"volatile":true,"nosuid":false,"noexec":false' >"$seeds/writable"
    printf '{"version":1,"names":["a@%s"],"documents":[2,2],"seals":[],"descriptors":["erofs","objects","above"]}' "$digest" >"$seeds/above"
    printf '{"version":1,"names":[],"documents":[2,2],"seals":[],"descriptors":[]}' >"$seeds/question"
    printf '{"version":1,"names":["a"],"documents":[2,18446744073709551615],"seals":[],"descriptors":["erofs","objects"]}' >"$seeds/overflow"
    printf '{"version":1,"asks":"verdict","names":["a"],"documents":[2,2],"seals":[],"descriptors":[]}' >"$seeds/verdict"
    printf '{"version":1,"asks":"mounts","names":[],"documents":[],"seals":[],"descriptors":[]}' >"$seeds/mounts"
    printf '"mounted"' >"$seeds/mounted"
    vouched=$(printf '{"image":"%s","identities":["a/b"],"seal":null,"signer":"CN=a","certificate":null,"anchor":null,%s}' \
        "$digest" '"mode":"enforce","rule":"[default]"')
    printf '{"verified":%s}' "$vouched" >"$seeds/verified"
    printf '{"mounts":[{"user":1000,"device":[0,50],"source":"composefs:00","vouched":%s,"verity":true,"since":1}]}' \
        "$vouched" >"$seeds/records"
    printf '{"refused":{"case":"R03","what":"not a directory that the caller may hand to the service","subject":"upper",%s}}' \
        '"detail":"user 0 owns it","mode":"enforce"' >"$seeds/refused"
}

# --- artifact_json: a real seal, and others' dialects about the same image with its real digests.

role() { sed -n "s/^$2 *//p" "$1/roles"; } # ALGORITHM ROLE

entry() { # MEDIATYPE ANNOTATIONS
    printf '{"mediaType":"%s","digest":"sha256:%064d","size":200,"annotations":{%s}}' "$1" 7 "$2"
}

artifact() { # NAME ARTIFACTTYPE ANNOTATIONS LAYERS
    digest=$(hash_of manifest.json)
    size=$(wc -c <manifest.json)
    printf '%s' "{\"schemaVersion\":2,\"mediaType\":\"$oci.manifest.v1+json\",\"artifactType\":\"$2\"," \
        "\"config\":{\"mediaType\":\"application/vnd.oci.empty.v1+json\"," \
        '"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},' \
        "\"layers\":[$4],\"subject\":{\"mediaType\":\"$oci.manifest.v1+json\"," \
        "\"digest\":\"sha256:$digest\",\"size\":$size},\"annotations\":{$3}}" >"$seeds/$1"
}

artifact_json() {
    image
    empty "$here/fuzz_targets/image"
    cp manifest.json config.json "$here/fuzz_targets/image/"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj /CN=seals \
        -keyout seal.key -out seal.crt 2>openssl.log
    chmod 600 seal.key
    for algorithm in sha256 sha512; do
        seal=$("$layerseal" sign oci:image --cert seal.crt --key seal.key --algorithm $algorithm \
            --identity registry.example.com/acme/app)
        cp "image/blobs/sha256/${seal#sha256:}" "$seeds/alongside-$algorithm"
        "$layerseal" digest oci:image --algorithm $algorithm >$algorithm/roles
    done

    composefs=application/vnd.composefs pkcs7=application/vnd.composefs.signature.v1+pkcs7
    typed() { entry "$1" "\"composefs.$2.type\":\"$3\",\"composefs.digest\":\"$(role sha256 "$4")\""; }
    signature() { typed $pkcs7 signature "$1" "$2"; }
    erofs() { typed $composefs.v1.erofs erofs "$1" "$2"; }
    keyed() { entry $pkcs7 "\"composefs.$1.fsverity-sha256-12\":\"$(role sha256 "$2")\""; }
    label='"composefs.algorithm":"fsverity-sha256-12"'
    artifact canonical $composefs.canonical.v1 "$label" "$(signature manifest manifest),$(signature config config),$(
        signature layer layer-0),$(signature layer layer-1),$(signature merged merged)"
    artifact unsigned $composefs.erofs-alongside.v1 "$label" "$(erofs layer layer-0),$(erofs layer layer-1),$(
        erofs merged merged)"
    artifact metadata $composefs.metadata.v1 '' "$(keyed manifest manifest),$(keyed config config),$(
        keyed merged.erofs.v1 merged),$(keyed layer.erofs.v1 layer-0),$(keyed layer.erofs.v1 layer-1)"
    artifact metadata-merged $composefs.metadata.v1 '' "$(keyed merged.erofs.v1 merged),$(
        keyed merged.bootable.erofs.v1 merged)"
    # Refused by name; not ours.
    artifact dm-verity application/vnd.cncf.notary.signature '' "$(entry application/jose+json \
        '"io.containerd.dm-verity.roothash":"00"')"
    artifact sbom application/spdx+json '' "$(entry application/spdx+json '"title":"bom"')"

    inline() { # PREFIX ROLE
        key=composefs.$1.fsverity-sha256-12
        printf '"annotations":{"%s":"%s","%s.sig":"AAEC"}' "$key" "$(role sha256 "$2")" "$key"
    }
    printf '{"schemaVersion":2,"config":{%s},"layers":[{%s},{%s}],%s}' "$(inline config config)" \
        "$(inline layer.erofs.v1 layer-0)" "$(inline layer.erofs.v1 layer-1)" "$(inline merged.erofs.v1 merged)" \
        >"$seeds/inline"
    printf '{"layers":[{"annotations":{"io.containers.composefs.digest":"sha256:%s,sha512:%s"}}]}' \
        "$(role sha256 layer-0)" "$(role sha512 layer-0)" >"$seeds/claims"
    printf '{"a":1,"b":[{"c":null,"d":-1.5e3},true],"a":"\\u0061"}' >"$seeds/twice"
}

# --- store_json: records as containers-storage writes them, a manifest and an index.

store_json() {
    id() { printf '%064d' "$1"; }
    printf '[{"id":"%s","digest":"sha256:%s","names":["registry.example.com/acme/app:1"],"names-history":["x"],' \
        "$(id 1)" "$(id 2)" >"$seeds/images"
    printf '"layer":"%s","metadata":"{}","big-data-names":["manifest","manifest-sha256:%s"],' "$(id 3)" "$(id 2)" \
        >>"$seeds/images"
    printf '"big-data-sizes":{"manifest":1},"big-data-digests":{"manifest":"sha256:%s"}}]' "$(id 2)" >>"$seeds/images"
    printf '[{"id":"%s","names":["c"],"image":"%s","layer":"%s","metadata":"{\\"image-name\\":\\"%s\\",%s}"}]' \
        "$(id 1)" "$(id 2)" "$(id 3)" registry.example.com/acme/app:1 '\"name\":\"c\"' >"$seeds/containers"
    descriptor() { printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":7}' "$1" "$(id "$2")"; }
    printf '{"schemaVersion":2,"config":%s,"layers":[%s],"annotations":{"a":"b"}}' \
        "$(descriptor config.v1+json 1)" "$(descriptor layer.v1.tar 2)" >"$seeds/manifest"
    printf '{"schemaVersion":2,"manifests":[%s]}' "$(descriptor manifest.v1+json 1)" >"$seeds/index"
    printf '[{"id":"x","names":null,"big-data-names":null}]' >"$seeds/null"
    printf '[{"id":"%s","parent":"%s","diff-digest":"sha256:%s","diff-size":7,"toc-digest":"sha256:%s","compression":2,' \
        "$(id 1)" "$(id 2)" "$(id 3)" "$(id 4)" >"$seeds/layers"
    printf '"uidset":[0,1000],"gidset":[0,7],"flags":{"incomplete":true}}]' >>"$seeds/layers"
}

# --- tar_import: layers as tools make them, each about one question.

tar_import() {
    empty tree
    mkdir -p tree/usr/bin tree/etc tree/run/lock tree/dev
    printf '%0300d' 0 >tree/usr/bin/tool
    chmod 4755 tree/usr/bin/tool
    ln tree/usr/bin/tool tree/usr/bin/tool.link
    ln -s ../usr/bin/tool tree/etc/tool
    echo small >tree/etc/small
    : >tree/etc/empty
    for format in ustar gnu pax; do pack "$seeds/$format" $format; done
    pack "$seeds/fraction" pax --mtime='2024-01-01 00:00:00.123456789Z'
    pack "$seeds/global" pax --pax-option='globexthdr.name=g,comment=x'
    pack "$seeds/owner" gnu --owner=4000000000 --group=3000000
    gzip -nc "$seeds/ustar" >"$seeds/gzip"
    cat "$seeds/gzip" "$seeds/gzip" >"$seeds/gzip-two"
    zstd -q -c "$seeds/ustar" >"$seeds/zstd"
    printf '\120\052\115\030\004\000\000\000abcd' | cat - "$seeds/zstd" >"$seeds/zstd-skippable"
    head -c 5000 "$seeds/ustar" >"$seeds/cut"

    mknod tree/dev/null c 1 3
    mknod tree/dev/loop0 b 7 0
    mknod tree/dev/zero c 0 0
    mkfifo tree/dev/fifo
    pack "$seeds/devices" ustar

    setcap cap_net_raw+ep tree/usr/bin/tool
    pack "$seeds/xattr" pax --xattrs --xattrs-include='*'

    empty tree
    mkdir -p tree/usr/lib tree/etc tree/00
    echo old >tree/etc/conf
    echo old >tree/usr/lib/.wh.conf
    : >tree/etc/.wh.other
    : >tree/usr/lib/.wh..wh..opq
    : >tree/.wh.00
    pack "$seeds/whiteouts" ustar

    # Long names and link targets, a name that is not UTF-8, a hole.
    empty tree
    long=$(printf '%0200d' 0)
    mkdir -p "tree/usr/$long"
    : >"tree/usr/$long/$long"
    ln -s "$long/$long/$long" tree/usr/link
    printf x >"tree/usr/$(printf '\377')"
    pack "$seeds/long-gnu" gnu
    pack "$seeds/long-pax" pax
    empty tree
    mkdir tree/usr
    truncate -s 20000 tree/usr/hole
    printf x | dd of=tree/usr/hole bs=1 seek=12288 conv=notrunc status=none
    pack "$seeds/sparse-gnu" gnu --sparse
    pack "$seeds/sparse-pax" pax --sparse
}

[ $# -gt 0 ] || set -- artifact_json binding pkcs7_der serve_call store_json tar_import
for target; do
    seeds=$here/seeds/$target
    empty "$seeds"
    "$target"
    rm -rf tree
done
