# shellcheck shell=sh
# What a person does with the package for RPM, from outside the root of a release of Debian, which has no rpm of its own:
# the current directory. It is no Fedora, but its /bin/sh, systemd-tmpfiles and podman are what scripts and hooks are for.
inside() {
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C \
        chroot . sh -euc '. /t/podman.sh; "$@"' sh "$@" </dev/null
}
die() { echo "rpm: $*" >&2; exit 1; }
# What it says of scripts that fail it says and goes on: no word is the right one. Debian's rpm says that it is no Debian package manager.
quiet_rpm() {
    rpm --root "$PWD" --dbpath /var/lib/rpm "$@" >t/log 2>&1 || { cat t/log >&2; die "failed: rpm $*"; }
    ! grep -v 'RPM should not be used directly\|However assuming you know' t/log || die "rpm $* said something"
}
ours=etc/containers/containers.conf.d/50-layerseal.conf

inside set_up
quiet_rpm --initdb
# Debian's own packages are none of RPM's.
quiet_rpm -i --nodeps t/old.rpm
inside mode audit installed
inside start installed
inside called
[ "$(stat -c %a run/layerseal)" = 711 ] || die "/run/layerseal is $(stat -c %a run/layerseal)"
rpm --root "$PWD" --dbpath /var/lib/rpm -V --nodeps layerseal >t/log 2>&1 || { cat t/log >&2; die "it is not what was packed"; }

# What the administrator writes stays, whatever comes.
sed -i 's/"audit"/"enforce"/' etc/layerseal/policy.toml
echo '# ours' >>$ours
quiet_rpm -U --nodeps t/new.rpm
[ "$(rpm --root "$PWD" --dbpath /var/lib/rpm -q --qf '%{VERSION}\n' layerseal)" != 0.0.9 ] || die "not upgraded"
inside mode enforce upgraded
grep -q '^# ours$' $ours || die "an edited file of configuration was replaced"
inside refused upgraded
sed -i 's/"enforce"/"audit"/' etc/layerseal/policy.toml
inside start upgraded

# Erased: what was changed is kept under another name, which podman does not read, and the policy is the administrator's.
rpm --root "$PWD" --dbpath /var/lib/rpm -e layerseal >t/log 2>&1 || { cat t/log >&2; die "not erased"; }
grep -q "saved as .*50-layerseal.conf.rpmsave" t/log || { cat t/log >&2; die "it does not say what it keeps"; }
grep -q '^# ours$' $ours.rpmsave || die "no .rpmsave"
for gone in $ours usr/bin/layerseal; do [ ! -e "$gone" ] || die "erased, and $gone is still there"; done
inside mode audit erased
inside start erased
left=$(find etc usr -name '*layerseal*' ! -path etc/layerseal ! -name '*.rpmsave')
[ -z "$left" ] || die "erased, and left: $left"

# Again, where there is a policy: it is nobody's to write.
echo '# mine' >>etc/layerseal/policy.toml
quiet_rpm -i --nodeps t/new.rpm
grep -q '^# mine$' etc/layerseal/policy.toml || die "a policy was written over another"
inside start "installed again"
inside stop
echo "rpm: ok: installed, upgraded and erased by $(rpm --version)"
