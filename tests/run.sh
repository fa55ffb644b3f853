#!/bin/sh
# All tests: unit, vectors, attacks, registries and mounts on this machine, then the suite in the VM.
# Counts what passed, failed and was skipped; with CI=true a skipped VM suite is a failure, and so are
# registries and schemas that could not be had.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 1
log=$(mktemp "${TMPDIR:-/tmp}/layerseal-tests.XXXXXX")
# A line for each test that cannot run, wherever it could not: here, with another userland, in the VM.
LAYERSEAL_SKIPS=$(mktemp "${TMPDIR:-/tmp}/layerseal-skips.XXXXXX")
LAYERSEAL_AGAIN=$(mktemp "${TMPDIR:-/tmp}/layerseal-again.XXXXXX")
export LAYERSEAL_SKIPS LAYERSEAL_AGAIN
trap 'rm -f "$log" "$LAYERSEAL_SKIPS" "$LAYERSEAL_SKIPS.before" "$LAYERSEAL_AGAIN"' EXIT
failed=0

# Runs a command, shows and keeps its output, remembers its failure.
step() {
    status=$(mktemp "${TMPDIR:-/tmp}/layerseal-status.XXXXXX")
    { "$@" 2>&1; echo $? >"$status"; } | tee -a "$log"
    code=$(cat "$status"); rm -f "$status"
    [ "$code" = 0 ] || failed=1
    return "$code"
}

# The host's tests want some of these as well: the openssl and fsverity commands.
packages=there
[ "$(id -u)" = 0 ] && { sh tests/vm/packages.sh vm || packages=missing; }

# What the VM boots from is mostly waited for: it is made while the rest is built. Where that fails, the suite tries again
# and says why.
if [ "$(id -u)" = 0 ] && [ "$packages" = there ]; then
    for of in '--kernel 6.12' '--kernel 7.3' '--kernel 6.1' '--root forky' '--root experimental' '--root systemd'; do
        # shellcheck disable=SC2086  # an option and its word
        sh tests/vm/image.sh $of
    done >/dev/null 2>&1 &
fi

tools=there
sh tests/registry/tools.sh || tools=missing
# Without it (no python3-venv, no PyPI) the tests of the Kubernetes files skip what it is needed for, and are counted.
sh tests/kubernetes/tools.sh || true

echo "tests: building, then unit, vector, attack and host tests"
# Of this system's podman, often an old one, the longest scenarios are left out, and stores of other shapes than one directory:
# the VM's suite has them with others.
left_out='--skip hooked_containers_with_metacopy --skip hooked_containers_start_at_once --skip two_hundred_starts --skip stores::'
others=
for test in tests/*.rs tests/*/main.rs; do
    name=${test#tests/}; name=${name%/main.rs}; name=${name%.rs}
    case $name in podman | faults | registry) ;; *) others="$others --test $name" ;; esac
done
# shellcheck disable=SC2086  # words
step cargo test --locked --no-fail-fast --lib --bin layerseal $others -- --nocapture --test-threads=2
# These wait for limits of time and for servers, and not for the processor: what makes packages is built meanwhile.
[ "$(id -u)" != 0 ] || [ "$packages" = missing ] ||
    make --no-print-directory packaging-tools >/dev/null 2>&1 &
step cargo test --locked --no-fail-fast --test faults --test registry -- --nocapture --test-threads=8
# What skopeo brings where mirrors or policy.json make it so: what registries send must be refused in the same way then.
step env LAYERSEAL_TEST_ASK_SKOPEO=1 cargo test --locked --no-fail-fast --test registry -- --nocapture --test-threads=8 faults:: tls::
step sh tests/known.sh registry faults:: tls::
step cargo test --locked --doc
step cargo test --locked --package layerseal-sha-lanes
# shellcheck disable=SC2086  # words
step sh tests/again.sh cargo test --locked --test podman -- --nocapture --test-threads=3 $left_out
# shellcheck disable=SC2086  # words
step sh tests/known.sh podman $left_out

# With the program that was built for the tests, in the release that the VM has too.
[ "$(id -u)" != 0 ] || [ "$packages" = missing ] || {
    sh tests/vm/packages.sh rpm || true
    BINARY=target/debug/layerseal step sh tests/packages/run.sh trixie
}

if [ "$(id -u)" != 0 ]; then
    echo "SKIPPED the VM suite: not root" >>"$LAYERSEAL_SKIPS"
    vm=skipped
elif [ "$packages" = missing ]; then
    echo "SKIPPED the VM suite: its packages cannot be installed" >>"$LAYERSEAL_SKIPS"
    vm=skipped
else
    vm=run
    before=$failed
    cp "$LAYERSEAL_SKIPS" "$LAYERSEAL_SKIPS.before"
    step sh tests/vm/suite.sh
    # 125: the guest never came up, which says nothing about the code; once more.
    if [ "$code" = 125 ]; then
        echo "vm: no working guest, trying once more"
        failed=$before
        cp "$LAYERSEAL_SKIPS.before" "$LAYERSEAL_SKIPS"
        step sh tests/vm/suite.sh
    fi
fi
[ "$vm,$tools" = run,there ] || [ "${CI:-}" != true ] || failed=1

# Of `make check` before this.
[ ! -s target/arm64/skipped ] || cat target/arm64/skipped >>"$LAYERSEAL_SKIPS"

sum() { sed -n "s/^test result: .* \([0-9][0-9]*\) $1;.*/\1/p" "$log" | awk '{n += $1} END {print n + 0}'; }
# A skipped test has passed for all that its runner knows.
skipped=$(grep -c '' "$LAYERSEAL_SKIPS")
whole=$(grep -c '^SKIPPED [^ ]*::' "$LAYERSEAL_SKIPS")
echo
LC_ALL=C sort "$LAYERSEAL_SKIPS"
# What failed, once more and last, with what it said: a long log may be cut.
awk '/^test .* \.\.\. FAILED$/ {failed[$2] = 1}
    /^thread .* panicked at/ {split($0, part, "\047"); name = part[2]; lines = 6}
    /^stack backtrace:|^test / {lines = 0}
    lines > 0 {said[name] = said[name] substr($0, 1, 500) "\n"; lines--}
    END {for (name in failed) printf "FAILED %s\n%s", name, said[name]}' "$log"
grep '^tests: no test' "$log"
# Those that were run twice failed once.
cat "$LAYERSEAL_AGAIN"
twice=$(sed 's/^AGAIN \([^ ]*\): .*/\1/' "$LAYERSEAL_AGAIN" | sort | uniq | grep -c '')
echo "$(($(sum passed) - whole)) passed, $(sum failed) failed, $skipped skipped, $(sum ignored) ignored, $twice run twice"
exit "$failed"
