#!/bin/sh
# Brings kubernetes-validate, which has the schemas of the Kubernetes API, into a venv in target/kubernetes (or
# $LAYERSEAL_KUBERNETES_DIR), and installs nothing else.
#
# usage: tools.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${LAYERSEAL_KUBERNETES_DIR:-$(cd "$here/../.." && pwd)/target/kubernetes}
version=1.37.0

# As in tests/registry/tools.sh: once for each recipe, and an interrupted one counts for nothing.
want=$(cksum <"$here/tools.sh")
mkdir -p "$dir"
exec 9>"$dir/lock"
flock 9
[ "$(cat "$dir/recipe" 2>/dev/null)" != "$want" ] || exit 0
rm -rf "${dir:?}/venv" "$dir/recipe"
echo "tools: fetching kubernetes-validate"
{ python3 -m venv "$dir/venv" &&
    "$dir/venv/bin/pip" --disable-pip-version-check install --quiet --only-binary :all: "kubernetes-validate==$version"; } \
    >"$dir/log" 2>&1 || { cat "$dir/log" >&2; echo "tools: no kubernetes-validate" >&2; exit 1; }
echo "$want" >"$dir/recipe"
