#!/bin/sh
# Runs a script as root in a throw-away guest with a stock kernel.
#
# usage: run.sh [--kernel 6.12|7.3|6.1] [--root trixie|forky|experimental|selinux|systemd] [--timeout S] [--disk-mb N] [--data FILE] [--out DIR] SCRIPT [FILE...]
#
# In the guest SCRIPT and the FILEs (or directories) are in /t by their base
# names; /t is the working directory. /data is a disk of its own, ext4 with
# fs-verity: N MB and new each time, or FILE, made if absent and kept. What
# SCRIPT leaves in /t/out arrives in DIR. Its output appears while it runs;
# kernel messages go to target/vm/kernel.log. In the root systemd, that is the
# first process, and SCRIPT is run by a unit; in the others SCRIPT is alone.
#
# Exits as SCRIPT did. 124: not done after S seconds (300). 125: no working guest.
# $LAYERSEAL_VM_DIR, $LAYERSEAL_VM_ACCEL and $LAYERSEAL_VM_MEMORY (MB) override;
# $LAYERSEAL_VM_APPEND goes to the kernel's command line.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
dir=${LAYERSEAL_VM_DIR:-$here/../../target/vm}
# Never KVM just because /dev/kvm exists: on a nested host it may be there and
# unable to run a stock kernel.
accel=${LAYERSEAL_VM_ACCEL:-tcg,thread=multi,tb-size=512}
kernel=6.12 userland=trixie limit=300 disk=1024 data='' out=''

die() { echo "vm: $*" >&2; exit 125; }
usage() { sed -n 's/^# \(usage: .*\)/\1/p' "$here/run.sh" >&2; exit 125; }

# What the guest runs as its pid 1; $1 is the name of the script.
guest() {
    cat <<'END'
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
dmesg -n 7
mount --make-rshared /
END
    [ "$userland" = systemd ] || without_systemd
    cat <<'END'
hostname guest
ip link set lo up
modprobe -a erofs overlay loop fuse || exit
mount -t ext4 /dev/vdd /data || exit
tar -xf /dev/vdb -C /t && mkdir -p /t/out && cd /t || exit
echo 'guest: up' >/dev/ttyS0
END
    case $userland in
        systemd)
            echo "cat >/run/script <<'ENDED'"
            run_and_power_off "$1"
            echo ENDED
            with_systemd ;;
        *) run_and_power_off "$1" ;;
    esac
}

# What an init would have made.
without_systemd() {
    cat <<'END'
mkdir -p /dev/pts /dev/shm /run/lock
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 pts /dev/pts
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t securityfs securityfs /sys/kernel/security
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
END
}

# The script as a unit, when there is all that users' sessions need. What a boot does once, or for hardware and networks
# that are not there, takes longer than the tests and is left out.
with_systemd() {
    cat <<'END'
# Else this is the first boot, at which systemd enables what it finds.
tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
units=/run/systemd/system
mkdir -p $units
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    ldconfig.service netavark-dhcp-proxy.socket systemd-binfmt.service systemd-creds.socket systemd-firstboot.service \
    systemd-hibernate-clear.service systemd-hostnamed.socket systemd-journal-catalog-update.service \
    systemd-machine-id-commit.service systemd-modules-load.service systemd-pcrextend.socket systemd-pcrlock.socket \
    systemd-pcrmachine.service systemd-pcrphase.service systemd-pcrphase-sysinit.service systemd-pstore.service \
    systemd-random-seed.service systemd-sysext.socket systemd-sysusers.service systemd-tpm2-setup.service \
    systemd-tpm2-setup-early.service systemd-update-done.service; do
    ln -s /dev/null $units/$unit
done
cat >$units/guest.service <<'ENDED'
[Unit]
Wants=dbus.service systemd-logind.service systemd-user-sessions.service
After=dbus.service systemd-logind.service systemd-user-sessions.service
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/sh /run/script
WorkingDirectory=/t
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
ENDED
exec /usr/lib/systemd/systemd --unit=guest.service --show-status=no
END
}

# Runs the script that is named $1.
run_and_power_off() {
    echo "script='$1'"
    cat <<'END'
# Through a pipe: programs see no terminal, and /dev/stdout can be opened.
stty -F /dev/ttyS1 raw -echo
mkfifo /run/output
cat </run/output >/dev/ttyS1 &
cat=$!
setsid --wait sh "./$script" </dev/null >/run/output 2>&1
echo $? >/run/status

# What the script left running may hold the pipe open: do not wait for ever.
for try in 1 2 3 4 5 6 7 8 9 10; do kill -0 $cat 2>/dev/null && sleep 0.2; done
cd /
tar -cf /dev/vdc -C /run status -C /t out
umount /data || mount -o remount,ro /data
sync
exec busybox poweroff -f
END
}

collect_payload() {
    mkdir "$tmp/payload"
    for file; do
        [ -e "$file" ] || die "no such file: $file"
        name=$(basename "$(realpath -s "$file")")
        [ ! -e "$tmp/payload/$name" ] || die "two files are named $name"
        cp -aH "$file" "$tmp/payload/$name"
    done
    tar -cSf "$tmp/payload.tar" -C "$tmp/payload" .
    rm -rf "$tmp/payload"
}

make_disks() {
    truncate -s 1G "$tmp/out.tar"
    [ -n "$data" ] || data=$tmp/data.ext4
    [ -e "$data" ] || { truncate -s "${disk}M" "$data" && mke2fs -q -t ext4 -O verity -b 4096 "$data"; }
    guest "$(basename "$1")" >"$tmp/guest"
    (cat "$boot/initrd" && cd "$tmp" && echo guest | cpio --quiet -o -H newc -R 0:0) >"$tmp/initrd"
}

# Two serial lines: one for the kernel, one for the script. no_timer_check: on a busy machine the emulated timer is late
# at times, and the kernel takes it for broken and panics.
boot() {
    mkfifo "$tmp/console"
    sed -u 's/\r//g' <"$tmp/console" &
    filter=$!
    TMPDIR=$tmp timeout --kill-after=5 "$limit" qemu-system-x86_64 \
        -M q35 -accel "$accel" -cpu max -smp 2 -m "${LAYERSEAL_VM_MEMORY:-2048}" \
        -nodefaults -no-user-config -display none -no-reboot -device virtio-rng-pci \
        -kernel "$boot/vmlinuz" -initrd "$tmp/initrd" \
        -append "console=ttyS0 quiet panic=-1 oops=panic mitigations=off net.ifnames=0 no_timer_check ${LAYERSEAL_VM_APPEND:-}" \
        -drive "file=$root,snapshot=on,$disk_options" \
        -drive "file=$tmp/payload.tar,readonly=on,$disk_options" \
        -drive "file=$tmp/out.tar,$disk_options" \
        -drive "file=$data,$disk_options" \
        -drive "file=$boot/modules.ext4,readonly=on,$disk_options" \
        -serial "file:$tmp/kernel.log" -serial stdio \
        </dev/null >"$tmp/console" 2>"$tmp/qemu.log" &
    qemu=$!
    ended=0
    wait "$qemu" || ended=$?
    qemu=
    wait "$filter" || true
}
disk_options=format=raw,if=virtio,cache=unsafe

fail() {
    cat "$tmp/qemu.log" >&2
    tail -n 20 "$dir/kernel.log" >&2
    die "$*"
}

# The tar's first member is the script's status: without it there was no end.
result() {
    mv "$tmp/kernel.log" "$dir/kernel.log" 2>/dev/null || : >"$dir/kernel.log"
    if ! tar -xf "$tmp/out.tar" -C "$tmp" --occurrence=1 status 2>/dev/null; then
        grep -q '^guest: up' "$dir/kernel.log" || fail "the guest did not come up (in $limit s)"
        [ "$ended" = 124 ] || fail "the guest stopped before the script ended"
        echo "vm: timeout: $script was still running after $limit s" >&2
        exit 124
    fi
    if [ -n "$out" ]; then
        mkdir -p "$out"
        tar -xf "$tmp/out.tar" -C "$out" --strip-components=1 out || die "more in /t/out than the 1 GB that fit"
    fi
    exit "$(cat "$tmp/status")"
}

while [ $# -gt 0 ]; do
    case $1 in
        --kernel | --root | --timeout | --disk-mb | --data | --out) [ $# -gt 1 ] || usage ;;
    esac
    case $1 in
        --kernel) kernel=$2 ;;
        --root) userland=$2 ;;
        --timeout) limit=$2 ;;
        --disk-mb) disk=$2 ;;
        --data) data=$2 ;;
        --out) out=$2 ;;
        -*) usage ;;
        *) break ;;
    esac
    shift 2
done
[ $# -gt 0 ] || usage
script=$(basename "$1")
case $script in *[!A-Za-z0-9._-]*) die "not a plain name: $script" ;; esac
command -v qemu-system-x86_64 >/dev/null || die "no qemu-system-x86_64: run tests/vm/packages.sh vm first"
"$here/image.sh" --kernel "$kernel" --root "$userland" || exit 125

dir=$(cd "$dir" && pwd)
boot=$dir/kernel-$kernel
case $userland in trixie) root=$dir/root/root.ext4 ;; *) root=$dir/root-$userland/root.ext4 ;; esac
qemu=
tmp=$(mktemp -d "$dir/tmp/run.XXXXXX")
trap '[ -z "$qemu" ] || { kill "$qemu"; wait "$qemu" || true; }; rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP
collect_payload "$@"
make_disks "$1"
boot
result
