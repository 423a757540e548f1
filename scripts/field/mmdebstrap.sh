#!/usr/bin/env bash
# Makes the like of an image with mmdebstrap, mkfs.erofs, veritysetup, ukify, mtools and sfdisk, as
# people write it by hand. Runs inside the tree of scripts/field-tools: mmdebstrap.sh LIKE, the folder
# that scripts/field/like.py filled; LIKE/settings says what is asked for. Leaves LIKE/mmdebstrap/like.raw.
set -euo pipefail

like=$1
. "$like/settings"
work=$like/mmdebstrap
rm -rf "$work"
mkdir -p "$work"
cd "$work"

# Kernels make no initrd of their own here: below is the one that counts.
INITRD=No SOURCE_DATE_EPOCH=$epoch mmdebstrap --quiet --mode=root --variant=essential \
    --include="$packages" --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --hook-dir=/usr/share/mmdebstrap/hooks/file-mirror-automount \
    trixie root "deb [trusted=yes] file://$like/archive trixie main"

cp -a "$like/extra/." root/
systemd-sysusers --root="$work/root" 2>sysusers.log
systemctl --root="$work/root" --preset-mode=full preset-all 2>presets.log
: >root/etc/machine-id
touch root/etc/.updated root/var/.updated

for place in dev proc sys; do mount --rbind /$place root/$place; done
chroot root dracut --quiet --force --no-hostonly --reproducible --kver "$release" \
    --modules 'systemd systemd-initrd systemd-udevd systemd-veritysetup dracut-systemd dm rootfs-block udev-rules base fs-lib shutdown' \
    --add-drivers "$drivers" --no-hostonly-cmdline --compress 'zstd -19 -T0' \
    /tmp/initrd
for place in dev proc sys; do umount -l root/$place; done
mv root/tmp/initrd initrd
mv "root/boot/vmlinuz-$release" vmlinuz
mv root/usr/lib/systemd/boot/efi/linuxx64.efi.stub stub
cp root/usr/lib/os-release os-release
"$like/strip/strip.py" root "$like/strip" --now
rm -rf root/boot/* root/initrd.img* root/vmlinuz*

mkfs.erofs --quiet -zzstd,level="$level" -C"$cluster" --workers="$(nproc)" -T"$epoch" --all-time \
    root.erofs root
veritysetup format --salt=- root.erofs root.verity >verity
hash=$(awk '/^Root hash:/ { print $3 }' verity)
ukify build --linux=vmlinuz --initrd=initrd --stub=stub --os-release=@os-release --uname="$release" \
    --cmdline="$words root=/dev/mapper/root roothash=$hash" --output=like.efi >ukify.log

# Partitions are found by their ids, which are the halves of the root hash.
uuid() { echo "${1:0:8}-${1:8:4}-${1:12:4}-${1:16:4}-${1:20:12}"; }
mebibytes() { echo $((($(stat -c %s "$1") + 1048575) / 1048576)); }
esp=$(($(mebibytes like.efi) + 40)) root=$(mebibytes root.erofs) verity=$(mebibytes root.verity)
truncate -s "${esp}M" esp.img
mkfs.fat -F 32 -s 1 -n ESP esp.img >/dev/null
mmd -i esp.img ::/EFI ::/EFI/BOOT
mcopy -i esp.img like.efi ::/EFI/BOOT/BOOTX64.EFI
truncate -s "$((esp + root + verity + 2))M" like.raw
sfdisk --quiet like.raw <<TABLE
label: gpt
start=1MiB, size=${esp}MiB, type=uefi
size=${root}MiB, type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709, uuid=$(uuid "${hash:0:32}")
size=${verity}MiB, type=2c7357ed-ebd2-46d9-aec1-23d437ec2bf5, uuid=$(uuid "${hash:32:32}")
TABLE
at=1
for part in esp.img root.erofs root.verity; do
    dd if=$part of=like.raw bs=1M seek=$at conv=notrunc,sparse status=none
    at=$((at + $(mebibytes $part)))
done
