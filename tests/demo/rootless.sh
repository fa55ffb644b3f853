# shellcheck shell=sh
# The demo's part with a user's podman, for a guest that is thrown away. Needs, in the current directory: table.sh,
# layerseal, image/ (sealed), keys/. Ends with a table; exits 1 if anything went otherwise than it must.
# shellcheck source=SCRIPTDIR/table.sh
. ./table.sh
data=${LAYERSEAL_DEMO_DATA:-/data}

say "Rootless podman: a service of root's mounts for users what somebody sealed"
install -D -m 0755 layerseal /usr/bin/layerseal
mkdir -p /etc/layerseal/trust.d/publisher
cp keys/publisher.crt /etc/layerseal/trust.d/publisher/
cat >/etc/layerseal/policy.toml <<'END'
version = 1
[default]
mode = "enforce"
trust = ["publisher"]
[rootless]
mode = "enforce"
END
# systemd does this by layerseal.socket, and makes the directory.
mkdir -p /run/layerseal && chmod 711 /run/layerseal
layerseal serve --socket /run/layerseal/serve.sock --idle 3000 2>/dev/null &
service=$!
wait_for 60 test -S /run/layerseal/serve.sock
home=$data/someone
echo "someone:x:1234:1234::$home:/bin/sh" >>/etc/passwd
echo someone:x:1234: >>/etc/group
for ids in /etc/subuid /etc/subgid; do echo someone:100000:65536 >>$ids; done
mkdir -p "$home/.config/containers" /run/user/1234
cat >"$home/.config/containers/storage.conf" <<'END'
[storage]
driver = "overlay"
[storage.options.overlay]
mount_program = "/usr/bin/layerseal"
END
printf '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' >"$home/.config/containers/containers.conf"
mkdir -p /etc/containers
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >/etc/containers/policy.json
cp -r image "$home/image"
chown -R 1234:1234 "$home" /run/user/1234
as() {
    (cd "$home" && setpriv --reuid 1234 --regid 1234 --init-groups \
        env -i HOME="$home" XDG_RUNTIME_DIR=/run/user/1234 PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@")
}
name=registry.example.com/demo/app
start() { as podman run --rm --network none --cgroups disabled "$@"; }
as id
run as podman tag "$(as podman pull -q oci:image:latest)" $name

say "No seal: no container"
start $name /bin/bash -c 'echo running' 2>&1 | tee "$data/out" | ours
row "a user's image without its seal" "$(grep -c '\[R-C07\]' "$data/out") refusal, $(grep -cx running "$data/out") run" "1 refusal, 0 run"

say "With its seal it runs, on a root that the kernel checks"
run as layerseal prepare $name --seal oci:image
start $name /bin/bash -c 'echo running; grep " / / " /proc/self/mountinfo | cut -c 1-110; echo x >/etc/mine && cat /etc/mine' | tee "$data/out"
row "the sealed image" "$(grep -cx running "$data/out") run, $(grep -c 'composefs:' "$data/out") verified" "1 run, 1 verified"

say "Under a name that it is not sealed for"
as podman tag $name registry.example.com/demo/other
start registry.example.com/demo/other /bin/bash -c 'echo running' 2>&1 | tee "$data/out" | ours
row "the same under another name" "$(grep -c '\[R-D18\]' "$data/out") refusal, $(grep -cx running "$data/out") run" "1 refusal, 0 run"

say "The files are the user's own: they can be replaced, and then they cannot be read"
size=$(stat -c %s "$(find "$home/.local/share/containers/storage/overlay" -path '*/usr/bin/openssl' | head -n 1)")
object=$(find "$home/.local/share/containers/storage/layerseal/objects" -type f -size "${size}c" | head -n 1)
as cp "$object" changed
as sh -c 'printf evil | dd of=changed conv=notrunc 2>/dev/null'
as mv changed "$object"
start $name /bin/bash -c 'cat /usr/bin/openssl >/dev/null' 2>&1 | tee "$data/out"
row "a replaced file" "$(grep -c 'Input/output error' "$data/out") x EIO" "1 x EIO"

kill $service
finish "what a user started"
