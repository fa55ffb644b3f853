#!/bin/sh
# Runs every fuzz target, one after the other: run.sh [SECONDS [TARGET]...]
#
# SECONDS for each (60). Needs rustup's stable Rust and a C++ compiler; installs cargo-fuzz if it is
# missing. New inputs are kept in corpus-run/, beside the seeds that it starts from. Prints one line
# for each target; on a finding the end of its log and the input's place, and then exits 1.
set -u
version=0.13.2

here=$(cd "$(dirname "$0")" && pwd)
cd "$here" || exit 1
seconds=${1:-60}
case $seconds in '' | *[!0-9]*) echo "usage: run.sh [SECONDS [TARGET]...]" >&2; exit 2 ;; esac
[ $# -eq 0 ] || shift

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: installing cargo-fuzz $version"
    cargo install --quiet --locked --version "$version" cargo-fuzz || exit 1
fi
[ $# -gt 0 ] || for source in fuzz_targets/*.rs; do set -- "$@" "$(basename "$source" .rs)"; done

# cargo-fuzz asks for sanitizers, which stable Rust has behind this variable.
export RUSTC_BOOTSTRAP=1
log=$(mktemp "${TMPDIR:-/tmp}/layerseal-fuzz.XXXXXX")
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM HUP

echo "fuzz: building"
for target; do
    cargo fuzz build "$target" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
done

failed=0
for target; do
    mkdir -p "corpus-run/$target"
    words=
    [ ! -e "$target.dict" ] || words=-dict=$here/$target.dict
    if cargo fuzz run "$target" "$here/corpus-run/$target" "$here/seeds/$target" -- -max_total_time="$seconds" \
        -timeout=20 -rss_limit_mb=2048 -max_len=32768 -print_final_stats=1 ${words:+"$words"} >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        covered=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
        echo "fuzz: $target: $runs runs in $seconds s, coverage $covered, no finding"
    else
        failed=1
        echo "fuzz: $target: FINDING, or it did not run:"
        tail -n 40 "$log"
    fi
done
exit $failed
