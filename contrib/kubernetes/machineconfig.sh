#!/bin/sh
# Prints the MachineConfig with which OpenShift puts policy and certificates on its nodes.
#
#   machineconfig.sh [--role ROLE] [--crio] DIRECTORY >50-layerseal.yaml
#
# The directory is as /etc/layerseal will be: policy.toml, trust.d/acme/release.crt, ... Files with hidden names are left
# out. --crio adds the handler of CRI-O: only for node images that have the programs, since without them nothing starts.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
role=worker
crio=

die() { echo "machineconfig: $*" >&2; exit 1; }

while [ $# -gt 1 ]; do
    case $1 in
    --role) role=$2 && shift 2 ;;
    --crio) crio=yes && shift ;;
    *) die "what is $1?" ;;
    esac
done
if [ $# != 1 ] || [ ! -f "$1/policy.toml" ]; then
    die "usage: machineconfig.sh [--role ROLE] [--crio] DIRECTORY, with a policy.toml"
fi
echo "$role" | grep -Eqx '[a-z0-9]([a-z0-9-]*[a-z0-9])?' || die "$role is not the name of a role"

# entry FILE PATH
entry() {
    # It stands in YAML, in a line.
    echo "$2" | grep -Eqx '[A-Za-z0-9_./@+-]+' || die "$2: letters, digits and ._@+- only"
    data=$(base64 <"$1" | tr -d '\n')
    cat <<END
        - path: $2
          mode: 420
          overwrite: true
          contents:
            source: data:;base64,$data
END
}

cat <<END
# Made by contrib/kubernetes/machineconfig.sh.
apiVersion: machineconfiguration.openshift.io/v1
kind: MachineConfig
metadata:
  name: 50-$role-layerseal
  labels:
    machineconfiguration.openshift.io/role: $role
spec:
  config:
    ignition:
      version: 3.2.0
    storage:
      files:
END
names=$(cd "$1" && find . -name '.?*' -prune -o -type f -print | LC_ALL=C sort)
IFS='
'
for file in $names; do entry "$1/$file" "/etc/layerseal/${file#./}"; done
[ -z "$crio" ] || entry "$here/../crio/10-layerseal-runtime.conf" /etc/crio/crio.conf.d/10-layerseal-runtime.conf
