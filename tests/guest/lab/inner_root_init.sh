#!/bin/sh
# The init of a guest: disks under their numbers in /dev/lun, then a shell on the console.
export PATH=/usr/bin:/usr/sbin HOME=/root TERM=dumb
echo "guest: init"
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mkdir -p /dev/lun
disks=1
for word in $(cat /proc/cmdline); do
  case $word in
    vhdkit.disks=*) disks=${word#*=} ;;
  esac
done

name_disk() {
  [ -b "/dev/$1" ] && ln -sf "/dev/$1" "/dev/lun/$2"
}
until [ "$(ls /dev/lun | wc -l)" -ge "$disks" ]; do
  # Two controllers, in the order of their identifiers, have their disks in turn.
  controllers=$(ls -d /sys/bus/vmbus/devices/*-76686b69743? 2>/dev/null | wc -l)
  controller=0
  for device in /sys/bus/vmbus/devices/*-76686b69743?; do
    for block in "$device"/host*/target*/*:*:*:*/block/*; do
      [ -e "$block" ] || continue  # a pattern that matches nothing stands for itself
      place=${block%/block/*}
      name_disk "${block##*/}" $((${place##*:} * controllers + controller))
    done
    controller=$((controller + 1))
  done
  number=0
  for block in /sys/block/vd?; do
    name_disk "${block##*/}" $number
    number=$((number + 1))
  done
  [ "$(ls /dev/lun | wc -l)" -ge "$disks" ] || sleep 0.05
done
echo "guest: up after $(cut -d ' ' -f 1 /proc/uptime) s"
setsid sh -c 'stty cols 999 </dev/ttyS0; PS1="guest# " exec sh -i </dev/ttyS0 >/dev/ttyS0 2>&1'
off
