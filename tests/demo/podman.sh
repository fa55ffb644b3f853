# shellcheck shell=sh
# The demo's part with podman, for a guest that is thrown away: it writes /etc/containers and
# /etc/layerseal. Needs, in the current directory: table.sh, layerseal, image/ (sealed), keys/. Ends with a
# table; exits 1 if anything went otherwise than it must.
# shellcheck source=SCRIPTDIR/table.sh
. ./table.sh
data=${LAYERSEAL_DEMO_DATA:-/data}

say "podman: layerseal mounts its containers, and a policy says whom to trust"
install -D -m 0755 layerseal /usr/bin/layerseal
mkdir -p /etc/layerseal/trust.d/publisher
cp keys/publisher.crt /etc/layerseal/trust.d/publisher/
cat >/etc/layerseal/policy.toml <<'END'
version = 1
[default]
mode = "enforce"
trust = ["publisher"]
END
cat >/etc/containers/storage.conf <<END
[storage]
driver = "overlay"
graphroot = "$data/storage"
runroot = "/run/containers/storage"
[storage.options.overlay]
mount_program = "/usr/bin/layerseal"
END
printf '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' >/etc/containers/containers.conf
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >/etc/containers/policy.json
cat /etc/layerseal/policy.toml
name=registry.example.com/demo/app
run skopeo copy --quiet oci:image:latest "containers-storage:$name"
start() { podman run --rm --network none "$@"; }

say "No seal: no container"
start $name /bin/bash -c 'echo running' 2>&1 | tee "$data/out" | ours
row "an image without its seal" "$(grep -c '\[R-C07\]' "$data/out") refusal, $(grep -cx running "$data/out") run" "1 refusal, 0 run"

say "With its seal it runs"
run layerseal prepare $name --seal oci:image
start $name /bin/bash -c 'echo running; mount | grep " / " | cut -c 1-60; echo x >/etc/mine && cat /etc/mine' | tee "$data/out"
row "the sealed image" "$(grep -cx running "$data/out") run" "1 run"
podman run -d --network none --name live $name /bin/sleep 1000 >/dev/null
run layerseal status

say "A file of the running image is changed on the disk"
file=$(find "$data"/storage/overlay/*/diff -path '*/usr/bin/bash' | head -n 1)
(echo evil >>"$file") 2>&1
row "writing to it on the host" "exit $?" "exit 2"
podman rm -f -t 0 live >/dev/null

say "Only the stranger is trusted here"
rm -r /etc/layerseal/trust.d/publisher; mkdir /etc/layerseal/trust.d/publisher
cp keys/stranger.crt /etc/layerseal/trust.d/publisher/
start $name /bin/bash -c 'echo running' 2>&1 | tee "$data/out" | ours
row "sealed by somebody else" "$(grep -c '\[R-E07\]' "$data/out") refusal, $(grep -cx running "$data/out") run" "1 refusal, 0 run"
cp keys/publisher.crt /etc/layerseal/trust.d/publisher/

say "An image that podman built, and nobody sealed"
podman create --name made --network none $name /bin/true >/dev/null
podman commit -q made localhost/made >/dev/null
podman rm made >/dev/null
start localhost/made /bin/bash -c 'echo running' 2>&1 | tee "$data/out" | ours
row "an unsealed image" "$(grep -c '\[R-C07\]' "$data/out") refusal, $(grep -cx running "$data/out") run" "1 refusal, 0 run"

say "And the good one still starts"
start $name /bin/bash -c 'echo running' | tee "$data/out"
row "the sealed image, again" "$(grep -cx running "$data/out") run" "1 run"

finish 'what was started'
