# shellcheck shell=sh
# The demo's part with fs-verity. Needs, in the current directory: table.sh, layerseal, image/ (sealed), keys/.
# Works in /data, which is on a filesystem with fs-verity. Ends with a table; exits 1 if anything
# went otherwise than it must.
# shellcheck disable=SC2086  # $trust is words

# shellcheck source=SCRIPTDIR/table.sh
. ./table.sh
data=${LAYERSEAL_DEMO_DATA:-/data}
PATH=$PWD:$PATH
vault=$data/vault
app=$data/app
mkdir -p "$app"

seal() { run layerseal --vault "$vault" "$@"; }
trust="--require-signature --trust keys/publisher.crt"

say "What this host can enforce"
seal doctor

say "Pull, verify, mount"
seal pull oci:image --name app $trust
seal mount app "$app" $trust; row "signed by the publisher" "exit $?" "exit 0"
grep " $app " /proc/self/mountinfo | cut -c 1-150
say "A program from it"
# shellcheck disable=SC2016  # expanded inside
run chroot "$app" /bin/bash -c 'echo "hello from $BASH_VERSION, in an image that the kernel checks"; cat /etc/issue; ls /app'
row "a program runs from it" "exit $?" "exit 0"
seal umount "$app"

say "Refusal: only the stranger is trusted here"
seal mount app "$app" --require-signature --trust keys/stranger.crt; row "wrong certificate" "exit $?" "exit 4"

say "Refusal: a file of the vault is replaced, with fs-verity and all"
object=$(find "$vault/objects" -type f -size +100k | sort | head -n 1)
cp "$object" "$data/keep"
tr 'a' 'b' <"$object" >"$data/evil"
mv "$data/evil" "$object"
fsverity enable --hash-alg=sha512 "$object"
seal mount app "$app" $trust
find "$app" -type f -exec cat {} + >/dev/null 2>"$data/errors"; row "changed object" "$(grep -c 'Input/output error' "$data/errors") x EIO" "$(grep -c . "$data/errors") x EIO"
head -n 2 "$data/errors"
# shellcheck disable=SC2034  # table.sh ends with it
[ -s "$data/errors" ] || { bad=1; echo "the changed object was served"; }
seal umount "$app"
cp "$data/keep" "$object.new"; mv "$object.new" "$object"; fsverity enable --hash-alg=sha512 "$object"

say "Refusal: the EROFS image is changed"
rootfs=$(seal digest app | sed -n 's/^rootfs *//p')
erofs=$vault/objects/$(echo "$rootfs" | cut -c 1-2)/$(echo "$rootfs" | cut -c 3-)
cp "$erofs" "$data/erofs"
sed 's/bash/evil/' <"$data/erofs" >"$erofs.new"; mv "$erofs.new" "$erofs"; fsverity enable --hash-alg=sha512 "$erofs"
seal mount app "$app" $trust; row "changed EROFS image" "exit $?" "exit 4"
cp "$data/erofs" "$erofs.new"; mv "$erofs.new" "$erofs"; fsverity enable --hash-alg=sha512 "$erofs"

say "Refusal: the seal of this image is put on another one, every signature in it good"
cp -r image other
layerseal inspect oci:image --json >"$data/inspect"
image=$(sed -n 's/^  "image": "sha256:\(.*\)",/\1/p' "$data/inspect")
seal=$(sed -n 's/^      "origin": "sha256:\(.*\)",/\1/p' "$data/inspect" | head -n 1)
# The other image: the same layers under another manifest.
sed 's/"schemaVersion"/"annotations":{"note":"another image"},"schemaVersion"/' "image/blobs/sha256/$image" >"$data/manifest"
new=$(sha256sum "$data/manifest" | cut -d ' ' -f 1)
cp "$data/manifest" "other/blobs/sha256/$new"
# Its seal: the old one, made to say that it is about the new image.
sed "s/sha256:$image/sha256:$new/g" "image/blobs/sha256/$seal" >"$data/seal"
newseal=$(sha256sum "$data/seal" | cut -d ' ' -f 1)
cp "$data/seal" "other/blobs/sha256/$newseal"
cat >other/index.json <<END
{"schemaVersion":2,"manifests":[
 {"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:$new","size":$(wc -c <"$data/manifest"),"annotations":{"org.opencontainers.image.ref.name":"latest"}},
 {"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.composefs.erofs-alongside.v1","digest":"sha256:$newseal","size":$(wc -c <"$data/seal")}]}
END
seal mount oci:other "$app" $trust; row "replayed seal" "exit $?" "exit 4"

say "And the good one still mounts"
seal mount app "$app" $trust; row "signed by the publisher, again" "exit $?" "exit 0"
seal umount "$app"

finish 'what was mounted'
