#!/bin/busybox sh
# PID 1 of the virtual machine, in its initramfs. Makes the host's root visible
# (read-only, over 9p) with a tmpfs laid over it for whatever is written, runs
# the guest's part of the harness in there, and powers off, whatever happened.

/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /host /scratch /root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

power_off() {
    [ -z "$1" ] || echo "init: $1"
    sync
    echo o >/proc/sysrq-trigger
    sleep 60 # the kernel does it from a queue
}

for module in /modules/*; do
    insmod "$module" || power_off "cannot load $module"
done

# the host does not change below us while a run lasts: cache as much as possible
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose root /host ||
    power_off "no root from the host"
mount -t tmpfs -o size=60% scratch /scratch || power_off "no tmpfs"
mkdir /scratch/upper /scratch/work
mount -t overlay -o lowerdir=/host,upperdir=/scratch/upper,workdir=/scratch/work root /root ||
    power_off "no overlay"

mount --move /dev /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /root/dev/pts
mount -t tmpfs shm /root/dev/shm
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t tmpfs -o mode=755 run /root/run
mount -t tmpfs var-tmp /root/var/tmp
mkdir -p /root/var/lib/bluetooth /root/run/share
mount -t tmpfs -o mode=700 bluetooth /root/var/lib/bluetooth # nothing of the host's
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 share /root/run/share ||
    power_off "no directory to share with the host"

hostname gatewayd-vm
ip link set lo up
stty -F /root/dev/ttyS1 raw -echo
. /root/run/share/job.sh # VERSION CHECKOUT MODULES PYTHON
mkdir -p /root/lib/modules
ln -sfn "$MODULES" "/root/lib/modules/$VERSION"

chroot /root /bin/sh -c "cd '$CHECKOUT' && exec '$PYTHON' -m tests.system.guest /run/share" \
    </root/dev/null >/root/dev/ttyS1 2>&1
power_off
