#!/usr/bin/env bash
# A disk with a real file system through all formats: scripts/demo.sh build/tools/vhd
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

vhd=$(readlink -f "${1:?usage: scripts/demo.sh PATH-OF-VHD}")
project=$(dirname "$(dirname "$(readlink -f "$0")")")
folder=$(mktemp -d "${TMPDIR:-/tmp}/vhdkit-demo-XXXXXX")
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM
cd "$folder"

say() { printf '\n== %s\n' "$*"; }
# Shows a command of ours and what it prints.
show() {
  printf '$ vhd %s\n' "$*"
  "$vhd" "$@"
}

say "A folder of files becomes an ext4 file system on a raw disk of 512 MiB, without root"
mkdir files
cp -r "$project"/{README.md,docs,image,libvhd,vhdx} files/
head -c 48M /dev/urandom >files/random.bin
truncate -s 512M disk.raw
mkfs.ext4 -q -F -L demo -d files disk.raw
du -h --apparent-size disk.raw | sed 's/\t/  /; s/$/ long/'
du -h disk.raw | sed 's/\t/  /; s/$/ taken: the rest is holes/'

say "Into a dynamic VHDX, as Hyper-V keeps its disks"
show convert -p -O vhdx --guest linux disk.raw disk.vhdx
show info disk.vhdx

say "Is every structure of it sound?"
show check disk.vhdx

say "Where does the content lie? (the first ten extents)"
show map disk.vhdx >map.txt
head -n 12 map.txt

say "Into a fixed VHD, as Azure takes it, and checked by Azure's rules"
show convert -p -O vhd --profile azure disk.vhdx disk.vhd
show check --profile azure disk.vhd

say "A checkpoint: a child that keeps only what changes, and its parent"
show create -f vhdx -b disk.vhdx child.avhdx
show chain child.avhdx

say "And back into a raw disk"
show convert -p -O raw disk.vhd back.raw

say "What all of them hold is the same"
show compare disk.raw back.raw
show compare disk.vhd child.avhdx
for image in disk.raw disk.vhdx disk.vhd child.avhdx back.raw; do
  "$vhd" hash "$image"
done | tee hashes.txt
[[ $(cut -d' ' -f1 hashes.txt | uniq | wc -l) == 1 ]] || {
  echo "demo: the hashes differ" >&2
  exit 1
}

say "The file system is whole, and so is a file in it"
e2fsck -fn back.raw 2>&1 | tail -n 1
debugfs -R "dump /random.bin $folder/random.bin" back.raw 2>debugfs.txt || {
  cat debugfs.txt >&2
  exit 1
}
cmp random.bin files/random.bin
echo "random.bin came through unchanged"

say "Mounted, the files in the VHDX are files"
if [[ -r /dev/fuse && -w /dev/fuse ]]; then
  mkdir mounted
  show mount --fs -o ro disk.vhdx mounted
  trap 'umount mounted 2>/dev/null || fusermount3 -u mounted; rm -rf "$folder"' EXIT
  ls -l mounted
  cmp mounted/random.bin files/random.bin
  umount mounted 2>/dev/null || fusermount3 -u mounted
  trap 'rm -rf "$folder"' EXIT
else
  echo "not here: /dev/fuse is missing or not for this user"
fi

say "A stock Debian kernel boots from a VHDX over VMBus, and sees the disk that was made here"
/usr/bin/python3 "$project/tests/guest/lab/show.py" --folder "$folder" disk.vhdx -- \
  "lsblk -o NAME,SIZE,VENDOR,MODEL,LABEL" || echo "not here: see above"

say "Done: raw, VHDX, VHD and raw again, bit for bit"
