#!/bin/sh
# Installs Debian into an empty file system, in a namespace whose mounts end with it, so that nothing has to be undone:
#   unshare --mount distribution.sh IMAGE UUID SUITE SOURCES PACKAGES FILES PASSWORD WORK
# IMAGE: a file that is an ext4 with this UUID. SOURCES: a sources.list. PACKAGES: with commas between. FILES: a tree
# that is put over what the packages bring. WORK: an empty folder, where GRUB's own files are left in grub/.
set -e
image=$1 uuid=$2 suite=$3 sources=$4 packages=$5 files=$6 password=$7 work=$8
root=$work/root
mkdir "$root"
# It is thrown away if this does not end well: there is nothing to wait for.
mount -o loop,barrier=0 "$image" "$root"
device=$(findmnt -n -o SOURCE "$root")

mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" "$suite" "$root" "$sources"
cp -r "$files/." "$root"
echo "root:$password" | chroot "$root" chpasswd

# What grub-install would put there, which wants to see a whole disk.
mkdir -p "$root/boot/grub/i386-pc"
cp "$root"/usr/lib/grub/i386-pc/*.mod "$root"/usr/lib/grub/i386-pc/*.lst "$root/boot/grub/i386-pc"
cp -r "$root/usr/lib/grub/i386-pc" "$work/grub"

# grub-mkconfig names the root by its UUID only where udev has a link of that name; a device that is called a loop it takes
# for the file behind it, so this one is called otherwise.
mount -t tmpfs dev "$root/dev"
cp -a /dev/null /dev/urandom "$root/dev"
cp -a "$device" "$root/dev/root-device"
mkdir -p "$root/dev/disk/by-uuid"
ln -s root-device "$root$device"
ln -s ../../root-device "$root/dev/disk/by-uuid/$uuid"
mount -t proc proc "$root/proc"
mount -t sysfs sys "$root/sys"
chroot "$root" update-grub
umount "$root/sys" "$root/proc" "$root/dev"
fstrim "$root"
umount "$root"
