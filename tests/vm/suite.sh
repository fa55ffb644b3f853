#!/bin/sh
# Builds the VM's suites and runs them: tests/vm/suite.sh [--kernel V]... [--podman trixie|forky|experimental]... [FILTER]
#                                       tests/vm/suite.sh --systemd: layerseal's units alone, see systemd.sh
#                                       tests/vm/suite.sh --selinux: containers under SELinux alone, see selinux.sh
#                                       tests/vm/suite.sh --users [--kernel V]... [--podman ...]... [FILTER]
#
# First what needs fs-verity. Without --kernel: 6.12 (the oldest that mounts EROFS from files), 7.3 (the
# newest) and 6.1 (which must say no). Then containers, with podman 5.4 of trixie, 5.8 of forky and 6.1 of
# experimental: all scenarios on this machine's kernel, with their programs, where they are ten times as fast, but two
# hundred starts, the longest by far, with one of them, and of 5.8 and 6.1 those that podman, its storage library or the
# runtime may change: with 6.1 what podman is found to take, names, copies, hooks, stores of other shapes than one directory; with
# 5.8 the newer crun and runc (`--podman forky`, `--podman experimental` have all). And in the VM,
# on 6.12 and 7.3, what fs-verity may make different, each on one of them but for what the kernel itself does. With one
# of the options only what it names.
# --users: in the VM alone all tests of users' containers, with each podman on 6.12 and 7.3; about 20 minutes for each pair, and
# so by hand.
# The last line of each run is the test runner's own, but for tests that were skipped: each is said, and appended to
# $LAYERSEAL_SKIPS.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
here=$top/tests/vm
kernels='' podmans='' filter='' users=''
while [ $# -gt 0 ]; do
    case $1 in
        --kernel) kernels="$kernels $2"; shift 2 ;;
        --podman) podmans="$podmans $2"; shift 2 ;;
        --systemd) exec sh "$here/systemd.sh" ;;
        --selinux) exec sh "$here/selinux.sh" ;;
        --users) users=yes; shift ;;
        *) filter=$1; shift ;;
    esac
done
case $users,$kernels,$podmans in
    ,,) kernels='6.12 7.3 6.1' podmans='trixie forky experimental' ;;
esac
cd "$top"
payload=$(mktemp -d "${TMPDIR:-/tmp}/layerseal-vm.XXXXXX")
trap 'rm -rf "$payload"' EXIT
skips=${LAYERSEAL_SKIPS:-/dev/null}
trap 'exit 130' INT TERM

# build NAME: puts the test binary into the payload as NAME-tests.
build() {
    cargo test -q --test "$1" --no-run
    tests=$(cargo test --test "$1" --no-run --message-format=json 2>/dev/null |
        sed -n 's/.*"executable":"\([^"]*\/'"$1"'-[^"]*\)".*/\1/p' | tail -n 1)
    cp "$tests" "$payload/$1-tests"
    strip "$payload/$1-tests" 2>/dev/null || true
}

# skipped FILE WHERE: says which tests of a run were skipped, and adds them to the caller's list.
skipped() {
    [ ! -s "$1" ] || sed "s/\$/ ($2)/" "$1" | tee -a "$skips"
}

# beside COMMAND...: runs it in the background, after what was there before. A guest keeps one processor of two busy.
beside=
beside() {
    joined
    (status=0; "$@"; exit $status) >"$payload/beside" 2>&1 &
    beside=$!
}

# Waits for what is in the background, and tells what it said.
joined() {
    [ -n "$beside" ] || return 0
    wait "$beside" || status=$?
    beside=
    cat "$payload/beside"
}

# known TARGET NAME...: a name that no test has is an error, and not nothing to do.
known() {
    sh "$top/tests/known.sh" "$@" || status=1
}

# guest KERNEL USERLAND NAME FILTER
guest() {
    # shellcheck disable=SC2086  # a list of names
    known "$3" ${filter:-$4}
    of=$payload/$1-$2
    mkdir -p "$of"
    { echo "LAYERSEAL_VM_FILTER='${filter:-$4}'"; cat "$here/guest/$3"; } >"$of/$3-run"
    sh "$here/image.sh" --kernel "$1" --root "$2"
    echo "vm: $3 tests on Linux $1, $2"
    sh "$here/run.sh" --kernel "$1" --root "$2" --timeout "${limit:-1500}" --disk-mb 3072 --out "$of/$3" \
        "$of/$3-run" "$payload/layerseal" "$payload/layerseal-runtime" "$payload/$3-tests" "$top/tests/vectors/pkcs7" || status=$?
    skipped "$of/$3/skipped" "Linux $1, $2"
}

echo "vm: building the suites"
sh "$here/programs.sh" "$payload"
status=0
if [ -n "$users" ]; then
    build podman
    limit=5400
    for userland in ${podmans:-trixie forky experimental}; do
        for kernel in ${kernels:-6.12 7.3}; do
            guest "$kernel" "$userland" podman 'rootless:: service:: service_hooks:: service_pods:: service_users:: users::'
        done
    done
    exit $status
fi
[ -z "$kernels" ] || build vm
[ -z "$podmans" ] || build podman
# Without --kernel the newest is asked for what kernels may do differently; the rest is the same program.
kernels() {
    for kernel; do
        case $kernels,$kernel in
            '6.12 7.3 6.1,7.3') guest "$kernel" trixie vm 'boots corpus enforce g_verity k_after keyring mapped tamper' ;;
            *) guest "$kernel" trixie vm '' ;;
        esac
    done
}
# Power cuts: a hundred of them take half an hour (tests/vm/cuts.sh 100).
# shellcheck disable=SC2317  # by `beside`
others() {
    kernels 7.3 6.1
    sh "$here/cuts.sh" 3 || status=$?
}
case $kernels,$filter in
    '6.12 7.3 6.1,')
        beside others
        kernels 6.12
        sh "$here/systemd.sh" || status=$?
        joined ;;
    *)
        # shellcheck disable=SC2086  # words
        kernels $kernels ;;
esac
# What a newer podman may do differently.
differs='configured:: hostile:: hooks::hooked_containers_live rootless:: artifacts::'
for userland in $podmans; do
    case $userland in
        trixie) kernel=6.12 root=root skip='' names='service::r_an_object service::r04 service::r_callers other_names::o09 life::i11 refusals::g03 refusals::h08 faults:: verity:: hooks::hooked_containers_live' ;;
        forky)
            kernel=7.3 root=root-forky skip='--skip two_hundred --skip stores::' names='users::a13 verity::'
            case $podmans in *trixie*experimental*) skip="$differs crio:: bundles:: runtime:: runtime_program:: second_look::" ;; esac ;;
        experimental)
            kernel=7.3 root=root-experimental names='verity::' skip='--skip two_hundred'
            case $podmans in *trixie*) skip="$differs stores:: database:: builders:: names:: mounted:: copied::o09 copied::m01 remade::" ;; esac ;;
        *) echo "suite.sh: no podman of $userland" >&2; exit 2 ;;
    esac
    sh "$here/image.sh" --root "$userland"
    echo "vm: podman tests on this kernel, $userland"
    # shellcheck disable=SC2086  # words
    known podman ${filter:-$skip}
    # shellcheck disable=SC2086  # words
    LAYERSEAL_TEST_ROOT=${LAYERSEAL_VM_DIR:-$top/target/vm}/$root/root.ext4 LAYERSEAL_SKIPS=$payload/skipped-$userland \
        sh "$top/tests/again.sh" "$tests" --nocapture --test-threads=3 ${filter:-$skip} || status=$?
    skipped "$payload/skipped-$userland" "this kernel, podman of $userland"
    # While the next one's are run here.
    beside guest "$kernel" "$userland" podman "$names"
done
joined
exit $status
