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
  # Two controllers have their disks in turn.
  hosts=$(ls /sys/class/scsi_host | wc -l)
  for block in /sys/bus/scsi/devices/*:*:*:*/block/*; do
    [ -e "$block" ] || continue  # a pattern that matches nothing stands for itself
    place=${block%/block/*}
    place=${place##*/}
    name_disk "${block##*/}" $((${place##*:} * hosts + ${place%%:*}))
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
