# shellcheck shell=sh
# The demo's part with a registry, after podman.sh, for a guest that is thrown away. A host that has nothing
# but a policy and the publisher's certificate pulls and starts an image: its seal comes from the registry.
# Needs, in the current directory: table.sh, layerseal, image/ (sealed), keys/, and what podman.sh left in its store.
# Ends with a table; exits 1 if anything went otherwise than it must.
# shellcheck source=SCRIPTDIR/table.sh
. ./table.sh
data=${LAYERSEAL_DEMO_DATA:-/data}

say "A registry, Debian's docker-registry, on this machine alone"
cat >registry.yml <<END
version: 0.1
storage: {filesystem: {rootdirectory: $data/registry}}
http: {addr: 127.0.0.1:5000}
log: {level: error}
END
docker-registry serve registry.yml >registry.log 2>&1 &
registry=$!
trap 'kill $registry 2>/dev/null' EXIT
wait_for 300 curl -sf http://127.0.0.1:5000/v2/ || cat registry.log
mkdir -p /etc/containers/registries.conf.d
printf '[[registry]]\nlocation = "127.0.0.1:5000"\ninsecure = true\n' >/etc/containers/registries.conf.d/demo.conf
name=127.0.0.1:5000/demo/app

say "The publisher pushes the image and its seal, and another image without one"
run layerseal push oci:image docker://$name:1.0 --signatures --tls-verify=false
row "pushed with its seal" "exit $?" "exit 0"
run podman push -q localhost/made 127.0.0.1:5000/demo/plain:1.0
run layerseal inspect docker://$name:1.0 --tls-verify=false | cut -c 1-110

say "A host: the publisher's certificate, a policy, an empty store, and nothing prepared"
cp keys/publisher.crt /etc/layerseal/trust.d/publisher/
cat >/etc/layerseal/policy.toml <<'END'
version = 1
[default]
mode = "enforce"
trust = ["publisher"]
fetch = "on-mount"
# On a machine that emulates another one slowly the default of ten seconds is too few.
fetch_timeout = 300
END
sed -i "s|^graphroot = .*|graphroot = \"$data/storage2\"|" /etc/containers/storage.conf
cat /etc/layerseal/policy.toml
start() { podman run --rm --network none "$@"; }

say "podman pulls it, and runs it"
run podman pull -q $name:1.0
start $name:1.0 /bin/bash -c 'echo running' 2>&1 | tee "$data/out"
row "pulled and run, nothing prepared" "$(grep -cx running "$data/out") run" "1 run"
ls "$data"/storage2/layerseal/images/*/seals
say "The image that nobody sealed"
run podman pull -q 127.0.0.1:5000/demo/plain:1.0
start 127.0.0.1:5000/demo/plain:1.0 /bin/bash -c 'echo running' 2>&1 | tee "$data/out" | ours
row "an image without a seal" "$(grep -c '\[R-C07\]' "$data/out") refusal, $(grep -cx running "$data/out") run" "1 refusal, 0 run"

say "The registry is gone, and the seal is here: it starts without asking anybody"
kill $registry
wait $registry 2>/dev/null
start $name:1.0 /bin/bash -c 'echo running' 2>&1 | tee "$data/out"
row "started without the registry" "$(grep -cx running "$data/out") run" "1 run"

finish 'from a registry'
