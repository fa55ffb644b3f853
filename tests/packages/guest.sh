# shellcheck shell=sh
# What a person does with the package, in the root of a release: as root, without a terminal, with podman.
# shellcheck source=tests/packages/podman.sh
. /t/podman.sh
set_up

# Between unpacking and configuring there are no half ways: containers start there too.
quietly dpkg --unpack /t/old.deb
start "unpacked"
quietly dpkg --configure layerseal
mode audit "installed"
layerseal --version >/dev/null
start "installed"
called
[ "$(stat -c %a /run/layerseal)" = 711 ] || die "/run/layerseal is $(stat -c %a /run/layerseal)"

# What the administrator writes stays, whatever comes.
sed -i 's/"audit"/"enforce"/' "$policy"
echo '# ours' >>/etc/containers/containers.conf.d/50-layerseal.conf
quietly dpkg -i /t/new.deb
mode enforce "upgraded"
grep -q '^# ours$' /etc/containers/containers.conf.d/50-layerseal.conf || die "an edited conffile was replaced"
refused "upgraded"
sed -i 's/"enforce"/"audit"/' "$policy"
start "upgraded"

quietly dpkg --remove layerseal
[ ! -e /usr/bin/layerseal ] || die "removed, and still there"
start "removed"
mode audit "removed"
quietly dpkg -i /t/new.deb
start "installed again"

# Certificates are the administrator's, and so is a policy that the package did not write.
mkdir -p /etc/layerseal/trust.d/acme
echo kept >/etc/layerseal/trust.d/acme/a.crt
quietly dpkg --purge layerseal
[ ! -e "$policy" ] || die "purged, and the policy is there"
[ -e /etc/layerseal/trust.d/acme/a.crt ] || die "purging took a certificate"
rm -r /etc/layerseal
left=$(find /etc /usr /var/lib/layerseal -name '*layerseal*' 2>/dev/null || true)
[ -z "$left" ] || die "purged, and left: $left"
start "purged"

# Where somebody has a policy in any of its places none is written.
for place in /etc/layerseal/policy.d/10.toml /usr/lib/layerseal/policy.toml /run/layerseal/policy.toml; do
    mkdir -p "$(dirname "$place")"
    printf 'version = 1\n[default]\nmode = "audit"\n' >"$place"
    quietly dpkg -i /t/new.deb
    [ ! -e "$policy" ] || die "a policy was written beside $place"
    start "with $place"
    quietly dpkg --purge layerseal
    [ -e "$place" ] || die "purging took $place"
    rm "$place"
    rm -rf /etc/layerseal
done

stop
# shellcheck source=/dev/null
echo "guest: ok: $(. /etc/os-release && echo "$PRETTY_NAME"), $(podman --version)"
