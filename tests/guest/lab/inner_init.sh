#!/bin/sh
# The initrd of a guest: loads the drivers of its disks and goes on from the first one, or from the partition of it that
# vhdkit.partition= numbers; vhdkit.root= says how to mount it. Where there is no VMBus the disks are virtio's: that is
# how others' guests start, to be compared with.
export PATH=/usr/bin:/usr/sbin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
exec </dev/console >/dev/console 2>&1

bus=virtio
ls /sys/bus/acpi/devices | grep -qi '^vmbus' && bus=hv
for module in /modules/*; do
  case ${module#/modules/*-} in
    hv_*) [ $bus = hv ] || continue ;;
    virtio*) [ $bus = virtio ] || continue ;;
  esac
  insmod "$module" || echo "initrd: insmod $module failed"
done
options=rw partition=
for word in $(cat /proc/cmdline); do
  case $word in
    vhdkit.root=*) options=${word#*=} ;;
    vhdkit.partition=*) partition=${word#*=} ;;
  esac
done

# Names of SCSI disks, and numbers of controllers, are drawn in the order in which they answer; identifiers and places on
# a controller are not.
name=
until [ -b "/dev/$name" ]; do
  for block in /sys/bus/vmbus/devices/*-76686b697430/host*/target*/*:0:0:0/block/* /sys/block/vda; do
    [ -e "$block" ] && name=${block##*/}$partition
  done
  [ -b "/dev/$name" ] || sleep 0.02
done
mount -t ext4 -o "$options" "/dev/$name" /root || {
  echo "initrd: no root"
  poweroff -f
}
umount /sys /proc
mount -o move /dev /root/dev
exec switch_root /root /sbin/init
