#!/bin/sh
# The first program of the emulated machine. The outside's files are at /host, as they were when they were first read;
# those of vhdkit.work= change and can be written. Everything else runs in there, with this machine's own /dev, /proc,
# /sys and /run.
export PATH=/usr/bin:/usr/sbin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
exec </dev/console >/dev/console 2>&1

fail() {
  echo "outer machine: $*"
  poweroff -f
}

for module in /modules/*; do
  case $module in
    *brd.ko) insmod "$module" rd_nr=1 rd_size=2097152 ;;  # 2 GiB, of which what is written is taken
    *) insmod "$module" ;;
  esac || fail "insmod $module"
done
for word in $(cat /proc/cmdline); do
  case $word in
    vhdkit.work=*) work=${word#*=} ;;
    vhdkit.agent=*) agent=${word#*=} ;;
  esac
done

mount -t virtiofs host /host || fail "the outside's files"
mount -o remount,ro /host || fail "the outside's files, read-only"
mount -t virtiofs work "/host$work" || fail "$work"
mount -t proc proc /host/proc
mount -t sysfs sys /host/sys
mount -t debugfs debug /host/sys/kernel/debug
mount -t tracefs trace /host/sys/kernel/tracing
mount --bind /dev /host/dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=0666 pts /host/dev/pts
mount -t tmpfs shm /host/dev/shm
mount -t tmpfs run /host/run

port=$(grep -lx vhdkit /sys/class/virtio-ports/*/name) || fail "no port for the agent"
port=${port%/name}
chroot /host /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
  TMPDIR="$work" HOME="$work" PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 "$agent" "/dev/${port##*/}"
fail "the agent has ended"
