#!/bin/sh
# Fails where a name that tests are chosen by, or left out by, is in the name of no test: known.sh TARGET NAME...
# Words that begin with -- are options. Nothing else would say that a test was renamed, and is run no more.
set -eu
target=$1
shift
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || exit 0
tests=$(cargo test --locked -q --test "$target" -- --list | grep ': test$')
status=0
for name; do
    case $name in --*) continue ;; esac
    if ! printf '%s\n' "$tests" | grep -F -e "$name" >/dev/null; then
        echo "tests: no test of $target has the name $name" >&2
        status=1
    fi
done
exit $status
