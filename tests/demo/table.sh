# shellcheck shell=sh
# What the parts of the demo share; they source it.
set -u
table=''
bad=0
say() { printf '\n-- %s\n' "$*"; }
run() { echo "\$ $*"; "$@" 2>&1; }
# row WHAT HAPPENED MUST: what was tried, what happened, what must happen.
row() {
    verdict=ok
    [ "$2" = "$3" ] || { verdict=WRONG; bad=1; }
    table="$table$(printf '%-44s %-22s %s' "$1" "$2" "$verdict")
"
}
# What podman prints ends with our line; the part before it is podman's own account.
ours() { sed -n 's/.*\(layerseal: .*\[R-[A-Z0-9]*\]\).*/\1/p' | cut -c 1-220; }
# finish WHAT: the table, and 1 if anything went otherwise than it must.
finish() {
    printf '\n%-44s %-22s %s\n' "$1" 'what happened' 'as it must be'
    printf '%s' "$table"
    exit $bad
}
