# shellcheck shell=sh
# What the parts of the demo share; they source it.
set -u
table=''
bad=0
# Colours, where whoever shows this has a terminal (tests/demo/run.sh says so), and NO_COLOR (no-color.org) is not set.
bold='' good='' wrong='' plain=''
if [ "${LAYERSEAL_DEMO_COLOURS:-}" = yes ] && [ -z "${NO_COLOR:-}" ]; then
    esc=$(printf '\033')
    bold="${esc}[1m" good="${esc}[32m" wrong="${esc}[1;31m" plain="${esc}[0m"
fi
say() { printf '\n%s-- %s%s\n' "$bold" "$*" "$plain"; }
# wait_for SECONDS COMMAND...: until the command succeeds. Long enough for a machine that emulates another one slowly: it
# costs nothing where that is quick.
wait_for() {
    left=$(($1 * 5))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$left" -gt 0 ] || { echo "waited in vain for: $*"; return 1; }
        sleep 0.2
        left=$((left - 1))
    done
}
run() { echo "\$ $*"; "$@" 2>&1; }
# row WHAT HAPPENED MUST: what was tried, what happened, what must happen.
row() {
    verdict=${good}ok$plain
    [ "$2" = "$3" ] || { verdict=${wrong}WRONG$plain; bad=1; }
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
