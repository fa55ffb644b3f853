#!/bin/sh
# Runs a test program that starts containers: again.sh COMMAND... (its last words are the test runner's options).
# podman itself loses the output of a container now and then, or cleans up while it is asked (one of some thousand starts):
# up to three tests that fail are run once more, alone, and each of these is said, and appended to $LAYERSEAL_AGAIN.
set -u
log=$(mktemp "${TMPDIR:-/tmp}/layerseal-again.XXXXXX")
trap 'rm -f "$log" "$log.status"' EXIT
run() {
    { "$@" 2>&1; echo $? >"$log.status"; } | tee "$log"
    code=$(cat "$log.status")
}
run "$@"
[ "$code" != 0 ] || exit 0
failed=$(sed -n 's/^test \([^ ]*\) \.\.\. FAILED$/\1/p' "$log")
count=$(printf '%s' "$failed" | grep -c '')
[ "$count" -ge 1 ] && [ "$count" -le 3 ] || exit "$code"
for name in $failed; do
    awk -v name="$name" '/^thread .* panicked at/ {split($0, part, "\047"); of = part[2]; lines = 3}
        /^stack backtrace:|^test / {lines = 0}
        lines > 0 {if (of == name) print "AGAIN " name ": " substr($0, 1, 300); lines--}' "$log"
done | tee -a "${LAYERSEAL_AGAIN:-/dev/null}"
# shellcheck disable=SC2086  # a list of names
run "$@" --exact $failed
exit "$code"
