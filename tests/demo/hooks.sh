# shellcheck shell=sh
# The demo's part with OCI hooks, for a guest that is thrown away: podman mounts its containers itself, and no
# mount program is configured. Needs, in the current directory: table.sh, layerseal, image/ (sealed), keys/, and
# installed/, which `make install-hooks DESTDIR=installed` left. Ends with a table; exits 1 if anything went
# otherwise than it must.
# shellcheck source=SCRIPTDIR/table.sh
. ./table.sh
data=${LAYERSEAL_DEMO_DATA:-/data}

say "podman with its own overlays, and the hooks as \`make install\` leaves them"
install -D -m 0755 layerseal /usr/bin/layerseal
cp -a installed/. /
find installed -type f | sed 's/^installed//'
mkdir -p /etc/layerseal/trust.d/publisher
cp keys/publisher.crt /etc/layerseal/trust.d/publisher/
cat >/etc/layerseal/policy.toml <<'END'
version = 1
[default]
mode = "enforce"
trust = ["publisher"]
[[rule]]
image = "localhost/*"
mode = "off"
END
cat >/etc/containers/storage.conf <<END
[storage]
driver = "overlay"
graphroot = "$data/native"
runroot = "/run/containers/native"
END
printf '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' >/etc/containers/containers.conf
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >/etc/containers/policy.json
name=registry.example.com/demo/app
run skopeo copy --quiet oci:image:latest "containers-storage:$name"
start() { podman run --rm --network none "$@"; }

say "No seal: no container"
# A host keeps what it has accepted, for stores that are wiped: this one has not seen the image.
rm -rf /var/lib/layerseal/seals
start $name /bin/bash -c 'echo running' 2>&1 | tee "$data/out"
row "an image without its seal" "$(grep -c '^Error.*exit status 3' "$data/out") refusal, $(grep -cx running "$data/out") run" "1 refusal, 0 run"
layerseal hook explain 3 | head -n 5

say "With its seal it runs, on a root that the kernel checks"
run layerseal prepare $name --seal oci:image
start $name /bin/bash -c 'echo running; grep " / / " /proc/self/mountinfo | cut -c 1-110' | tee "$data/out"
row "the sealed image" "$(grep -cx running "$data/out") run, $(grep -c 'composefs:' "$data/out") verified" "1 run, 1 verified"

say "diff, commit and ps -s of a running container, as with plain podman"
podman run -d --network none --name live $name /usr/bin/perl -e \
    'chmod 0700, "/usr/bin/openssl"; open my $f, ">", "/etc/mine"; print $f "x"; close $f; sleep 1000' >/dev/null
wait_for 300 podman exec live /bin/bash -c '[ -s /etc/mine ]'
podman diff live | tee "$data/out"
row "diff" "$(grep -c -e 'A /etc/mine' -e 'C /usr/bin/openssl' "$data/out") of 2 changes" "2 of 2 changes"
podman ps -s --format '{{.Names}} {{.Size}}'
podman commit -q live localhost/committed >/dev/null
start localhost/committed /usr/bin/openssl version | tee "$data/out"
row "commit, and a program whose mode was changed" "$(grep -c '^OpenSSL' "$data/out") run" "1 run"
podman rm -f -t 0 live >/dev/null

say "What is no sealed image's root does not start"
mkdir -p "$data/root/bin"; cp "$(command -v busybox)" "$data/root/bin/true"
start --rootfs "$data/root" /bin/true 2>&1 | tee "$data/out"
row "--rootfs" "$(grep -c '^Error.*exit status 3' "$data/out") refusal" "1 refusal"
start -v /tmp:/usr/lib $name /bin/bash -c 'echo running' 2>&1 | tee "$data/out"
row "a volume over /usr/lib" "$(grep -c 'exit code: 4' "$data/out") refusal, $(grep -cx running "$data/out") run" "1 refusal, 0 run"
layerseal hook explain 4 | sed -n 3,4p

say "Builds go on as before"
printf 'FROM %s\nRUN echo built >/built\n' $name >Containerfile
# shellcheck disable=SC2016  # expanded inside
podman build -q --network none -t localhost/built . >/dev/null && start localhost/built /bin/bash -c 'echo "$(</built)"' | tee "$data/out"
row "podman build" "$(grep -cx built "$data/out") run" "1 run"

say "What the doctor says of the hooks"
podman run -d --network none --name live $name /bin/sleep 1000 >/dev/null
layerseal doctor | grep hook | cut -c 1-140
mv /usr/bin/layerseal /usr/bin/layerseal.away
./layerseal doctor | tee "$data/out" | grep '^missing.*hook' | cut -c 1-160
row "the hooks' program is missing: the doctor" "$(grep -c '^missing.*unchecked' "$data/out") warnings" "2 warnings"
mv /usr/bin/layerseal.away /usr/bin/layerseal
podman rm -f -t 0 live >/dev/null

finish 'what was started, with hooks'
