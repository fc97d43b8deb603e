#!/bin/busybox sh
# PID 1 of the virtual machine. Its root is the host's, read-only; a tmpfs is
# laid over it for whatever is written. Runs the guest's part of the harness in
# there, or hands over to systemd, which does; powers off, whatever happened.
# Arguments: the directory shared with the host.

box=/bin/busybox
share=$1
$box mount -t tmpfs -o mode=755 scratch /mnt

power_off() {
    [ -z "$1" ] || echo "init: $1"
    $box sync
    $box poweroff -f
}

$box mkdir /mnt/written /mnt/work /mnt/root
$box mount -t tmpfs -o size=60% written /mnt/written || power_off "no tmpfs"
$box mkdir /mnt/written/upper /mnt/written/work
$box mount -t overlay root /mnt/root \
    -o lowerdir=/,upperdir=/mnt/written/upper,workdir=/mnt/written/work || power_off "no overlay"
cd /mnt/root || power_off "no root"
$box pivot_root . mnt || power_off "no new root"
PATH=/usr/sbin:/usr/bin:/sbin:/bin

$box mount -t proc proc /proc
$box mount -t sysfs sys /sys
$box mount -t devtmpfs dev /dev
$box mkdir -p /dev/pts /dev/shm
$box mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
$box mount -t tmpfs shm /dev/shm
$box mount -t tmpfs -o mode=755 run /run
$box mount -t tmpfs -o mode=1777 tmp /var/tmp
$box mkdir -p /var/lib/bluetooth /run/share
$box mount -t tmpfs -o mode=700 bluetooth /var/lib/bluetooth # nothing of the host's
$box mount -t hostfs -o "$share" share /run/share || power_off "no directory to share with the host"
$box mount -t configfs configfs /sys/kernel/config

$box hostname gatewayd-vm
$box ip link set lo up
$box stty -F /dev/ttyS0 raw -echo
. /run/share/job.sh # CHECKOUT PYTHON SYSTEMD
cd "$CHECKOUT" || power_off "no checkout"
if [ -n "$SYSTEMD" ]; then
    "$PYTHON" -m tests.system.systemd_boot "$PYTHON" "$CHECKOUT" /run/share || power_off "no units"
    # it starts guest.py as a unit, which powers off when it ends
    exec /lib/systemd/systemd --unit=system-tests.target --log-target=journal-or-kmsg
fi
"$PYTHON" -m tests.system.guest /run/share </dev/null >/dev/ttyS0 2>&1
power_off
