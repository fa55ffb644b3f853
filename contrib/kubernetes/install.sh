#!/bin/sh
# Puts layerseal, its policy and its certificates on a node, or takes them away: what the DaemonSet runs, as root, with the
# node's root filesystem at /host.
#
#   install.sh install    again and again: what is there already is not touched
#   install.sh remove     what `install` wrote; drain the node first
#
# Everything is checked before anything is replaced, by the programs that come, in the node's root. Each file is replaced
# by a rename, in an order in which the node has a policy that can be used after each step, wherever this dies: files that
# trust needs, the policy, then what the policy no longer needs. CRI-O is restarted only when its drop-in changed; where it
# does not come up, the old one is put back.
#
# Keys of a ConfigMap have no slashes: trust.d__acme__release.crt is trust.d/acme/release.crt.
set -eu
umask 022
host=${LAYERSEAL_HOST:-/host}
programs=${LAYERSEAL_PROGRAMS:-/layerseal}
config=${LAYERSEAL_CONFIG:-/config}
# Where /usr is read-only: /usr/local/bin.
bin=${LAYERSEAL_BIN:-/usr/bin}
dropin=10-layerseal-runtime.conf

say() { echo "layerseal: $*"; }
die() { say "$*" >&2; exit 1; }

# A shell of the node's looks for the node's programs: busybox would take its own.
on_host() {
    # shellcheck disable=SC2016  # for that shell
    chroot "$host" /bin/sh -c 'PATH=/usr/sbin:/usr/bin:/sbin:/bin && export PATH && exec "$@"' sh "$@"
}

# real DIRECTORY: where it is below /host, with links followed as the node follows them.
real() {
    path=$(on_host realpath -m -- "$1") || die "the node has no realpath"
    echo "$host$path"
}

# same SOURCE FILE MODE
same() { [ ! -L "$2" ] && cmp -s -- "$1" "$2" && [ "$(stat -c %a:%u:%g -- "$2")" = "$3:0:0" ]; }

# put SOURCE FILE MODE [DIRECTORY]: FILE is the old one or the new one, whole, also after a power cut. The directory is for
# the copy, in the same filesystem.
put() {
    if same "$1" "$2" "$3"; then return; fi
    copy=${4:-${2%/*}}/.${2##*/}.layerseal-new
    rm -rf -- "$copy"
    cp -- "$1" "$copy"
    chmod -- "$3" "$copy"
    sync "$copy"
    mv -fT -- "$copy" "$2"
    sync "${2%/*}"
    say "wrote ${2#"$host"}"
}

# What was left by a run that died.
sweep() {
    rm -rf -- "$stage" "$new"
    for directory in "$etc" "$crio"; do
        [ ! -d "$directory" ] || find "$directory" -name '.*.layerseal-new' -exec rm -f -- {} \;
    done
}

# place KEY: its file below /etc/layerseal. policy.d is left to the node: two files are not replaced at once.
place() {
    file=$(echo "$1" | sed 's|__|/|g')
    echo "$file" | grep -Eqx '(policy|runtime)\.toml|(deny\.d|trust\.d/[^./][^/]*(/ca)?)/[^./][^/]*' ||
        die "$1 in the ConfigMap is none of policy.toml, runtime.toml, trust.d__STORE__FILE, trust.d__STORE__ca__FILE, deny.d__FILE"
    echo "$file"
}

restart() {
    # systemctl does nothing where it sees a chroot.
    SYSTEMD_IGNORE_CHROOT=1 SYSTEMD_IN_CHROOT=0 on_host systemctl restart crio
}

# In a namespace of its own, the new policy lies where the programs look for it.
check() {
    # shellcheck disable=SC2016  # for the other shell
    unshare -m sh -euc 'mount --bind "$1" "$2"
        chroot "$3" "$4/layerseal" policy check localhost/layerseal >/dev/null
        chroot "$3" "$4/layerseal-runtime" --version >/dev/null' sh "$stage" "$etc" "$host" "${new#"$host"}"
}

install() {
    [ -d "$crio" ] || die "this node has no CRI-O: /etc/crio is not there"
    [ -f "$config/policy.toml" ] || die "there is no policy.toml in the ConfigMap"
    mkdir -p "$etc" "$into" "$crio/crio.conf.d"
    sweep
    list=$etc/.from-kubernetes
    [ -f "$list" ] || : >"$list"

    # As it will be.
    cp -a -- "$etc" "$stage"
    while read -r file; do rm -f -- "$stage/$file"; done <"$list"
    : >"$stage/.from-kubernetes"
    for source in "$config"/*; do
        file=$(place "${source##*/}")
        case $file in */*) mkdir -p "$stage/${file%/*}" ;; esac
        rm -f -- "$stage/$file"
        cp -L -- "$source" "$stage/$file"
        chmod 644 "$stage/$file"
        echo "$file" >>"$stage/.from-kubernetes"
    done
    mkdir -p "$new"
    for program in layerseal layerseal-runtime; do
        cp -- "$programs/$program" "$new/$program"
        chmod 755 "$new/$program"
        sync "$new/$program"
    done
    check || die "the new files cannot be used, see above; what the node has stays as it is"

    for program in layerseal layerseal-runtime; do
        if same "$new/$program" "$into/$program" 755; then continue; fi
        mv -fT -- "$new/$program" "$into/$program"
        sync "$into"
        say "wrote ${into#"$host"}/$program"
    done

    # What is ours is known before it is there, and until it is gone.
    sort -u "$list" "$stage/.from-kubernetes" >"$stage/.both"
    put "$stage/.both" "$list" 644
    for file in $(grep -vx policy.toml "$stage/.from-kubernetes") policy.toml; do
        case $file in */*) mkdir -p "$etc/${file%/*}" ;; esac
        put "$stage/$file" "$etc/$file" 644
    done
    grep -vxF -f "$stage/.from-kubernetes" "$list" | while read -r file; do
        rm -f -- "$etc/$file"
        say "removed /etc/layerseal/$file"
    done
    sort -u "$stage/.from-kubernetes" >"$stage/.both"
    put "$stage/.both" "$list" 644

    sed "s|/usr/bin/layerseal-runtime|$bin/layerseal-runtime|" "$programs/$dropin" >"$stage/$dropin"
    if ! same "$stage/$dropin" "$crio/crio.conf.d/$dropin" 644 || [ -e "$pending" ]; then handler; fi
    say "the node has what it should have"
}

# CRI-O reads every file of crio.conf.d, whatever it is called: copies are beside it.
handler() {
    : >"$pending"
    old=$stage/old.conf
    [ ! -e "$crio/crio.conf.d/$dropin" ] || cp -- "$crio/crio.conf.d/$dropin" "$old"
    put "$stage/$dropin" "$crio/crio.conf.d/$dropin" 644 "$crio"
    if ! restart; then
        if [ -e "$old" ]; then put "$old" "$crio/crio.conf.d/$dropin" 644 "$crio"; else rm -f "$crio/crio.conf.d/$dropin"; fi
        restart || say "CRI-O does not start without the new $dropin either" >&2
        rm -f "$pending"
        die "CRI-O does not start with the new $dropin: the old state is back"
    fi
    rm -f "$pending"
    say "restarted CRI-O"
}

remove() {
    sweep
    if [ -e "$crio/crio.conf.d/$dropin" ] || [ -e "$pending" ]; then
        : >"$pending"
        rm -f "$crio/crio.conf.d/$dropin"
        restart || die "CRI-O does not start without $dropin"
        rm -f "$pending"
        say "restarted CRI-O"
    fi
    if [ -f "$etc/.from-kubernetes" ]; then
        while read -r file; do rm -f -- "$etc/$file"; done <"$etc/.from-kubernetes"
        rm -f "$etc/.from-kubernetes"
        find "$etc" -depth -type d -exec rmdir {} \; 2>/dev/null || :
    fi
    rm -f "$into/layerseal" "$into/layerseal-runtime"
    say "removed; /var/lib/layerseal and the vault stay"
}

verb=${1-}
case $verb in install | remove) ;; *) die "usage: install.sh install|remove" ;; esac
[ -d "$host/etc" ] || die "the node's root is not at $host"
etc=$(real /etc/layerseal)
crio=$(real /etc/crio)
into=$(real "$bin")
stage=${etc%/*}/.layerseal.layerseal-new
new=$into/.layerseal-new
pending=$crio/.layerseal-restart
# One at a time; the lock goes with this process.
exec 9>"$host/run/layerseal-install.lock"
on_host flock -w 60 9 || die "another installer is at work"
trap 'rm -rf -- "$stage" "$new"' EXIT
"$verb"
