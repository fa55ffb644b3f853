# shellcheck shell=sh
# For what runs in the root of a release: podman set up, with an image, one container that runs and one that is kept.
die() { echo "guest: $*" >&2; exit 1; }

policy=/etc/layerseal/policy.toml
mode() { grep -qx "mode = \"$1\"" "$policy" || die "the policy is not $1: $2"; }
quietly() { "$@" >/tmp/log 2>&1 || { cat /tmp/log >&2; die "failed: $*"; }; }
# They start: one that was there before, and a new one.
start() {
    podman run --rm localhost/test:1 /bin/true || die "a new container does not start: $*"
    podman start -a kept || die "the container from before does not start: $*"
}
# Nobody sealed it, and podman says where to look.
refused() {
    ! podman run --rm localhost/test:1 /bin/true 2>/tmp/log || die "enforce starts what nobody sealed: $*"
    grep -q 'see: layerseal hook explain' /tmp/log || { cat /tmp/log >&2; die "podman does not say where to look"; }
}
# The hooks are called: they say what they would have refused.
called() { layerseal hook explain | grep -q 'let pass by audit' || die "no hook was called"; }
# What was running before still does.
stop() {
    [ "$(podman inspect --format '{{.State.Running}}' runs)" = true ] || die "what ran before does not run any more"
    podman rm -f -t 0 runs >/dev/null 2>&1
}

set_up() {
    mkdir -p /etc/containers /tmp/image/bin
    cat >/etc/containers/containers.conf <<'CONF'
[containers]
cgroups = "disabled"
netns = "none"
pids_limit = 0
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
CONF
    printf '[storage]\ndriver = "overlay"\ngraphroot = "/var/lib/containers/storage"\nrunroot = "/run/containers/storage"\n' \
        >/etc/containers/storage.conf
    echo '{"default":[{"type":"insecureAcceptAnything"}]}' >/etc/containers/policy.json
    cp "$(command -v busybox)" /tmp/image/bin/busybox
    for name in sh true sleep; do ln -s busybox "/tmp/image/bin/$name"; done
    tar -C /tmp/image -c . | podman import - localhost/test:1 >/dev/null 2>&1
    podman create --name kept localhost/test:1 /bin/true >/dev/null
    podman run -d --name runs localhost/test:1 /bin/sleep 600 >/dev/null
    start "before anything is installed"
}
