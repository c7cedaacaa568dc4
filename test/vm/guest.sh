#!/bin/bash
# The guest of the system test as root makes it, from Debian packages alone (README.md beside this):
#   guest.sh packages ROOT                              the package set, once (the caller keeps it)
#   guest.sh base ROOT TREE                             those packages as the tree of an image-mode host, /etc where an image has it
#   guest.sh layer TREE UPPER MODE DEB SETTINGS         what a Containerfile adds to TREE: agent, settings, MODE of composefs, initramfs
#   guest.sh pack DIR TAR                               a layer's tar
#   guest.sh deploy ROOT DISK IMAGE                     the layers in IMAGE, as a host that pulled them has them, on a new disk
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd -P)
suite=${VM_SUITE:-sid}
mirror() { echo "${VM_MIRROR:-$(apt-get indextargets --format "\$(REPO_URI)" | grep -m1 '/debian/$')}"; }
packages=systemd-sysv,udev,dbus,login,mount,passwd,iproute2,ca-certificates,ostree,ostree-boot,dracut-core,linux-image-cloud-amd64,fsverity,e2fsprogs,libstdc++6,libatomic1,libcap2-bin,procps,kmod,zstd,attr,gawk

mounted=()
unmount() {
  local i
  for ((i = ${#mounted[@]} - 1; i >= 0; i--)); do umount -R "${mounted[i]}" || umount -l "${mounted[i]}" || true; done
  mounted=()
}
trap unmount EXIT
hang() { # mount's arguments, the folder last
  mount "$@"
  mounted+=("${!#}")
}

case ${1-} in
packages)
  root=$2
  # mmdebstrap works with apt lists of its own; nothing of this machine's apt is touched. A mirror may be a frozen one.
  mmdebstrap --quiet --mode=root --variant=apt --format=directory --include=$packages --aptopt='Apt::Install-Recommends "false"' \
    --aptopt='Acquire::Check-Valid-Until "false"' --dpkgopt='force-unsafe-io' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    "$suite" "$root" "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $suite main"
  ;;

base)
  root=$2 tree=$3
  cp -a "$root" "$tree"
  kernel=$(ls "$tree/usr/lib/modules")
  # Debian has /boot/vmlinuz and this one as one hard link; ostree looks here.
  cp --remove-destination "$root/boot/vmlinuz-$kernel" "$tree/usr/lib/modules/$kernel/vmlinuz"
  cp -a "$here/tree/." "$tree/"
  chown -R root:root "$tree/usr/lib/vm" "$tree/usr/lib/systemd/system"
  # As base images are built: else systemd does it at first boot, and each host differs for its sake (docs/agent.md).
  chroot "$tree" systemctl preset-all 2>/dev/null
  for unit in systemd-firstboot.service systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service; do
    ln -sf /dev/null "$tree/etc/systemd/system/$unit"
  done
  # As images have it: each host makes its own at first boot.
  echo uninitialized >"$tree/etc/machine-id"
  : >"$tree/etc/fstab"
  echo vm >"$tree/etc/hostname"
  rm -f "$tree/etc/resolv.conf"
  echo 'nameserver 10.0.2.3' >"$tree/etc/resolv.conf"
  # One program with a file capability, as every distribution has some.
  cp "$tree/usr/bin/true" "$tree/usr/bin/vm-capable"
  chroot "$tree" setcap cap_net_raw=ep /usr/bin/vm-capable
  mkdir -p "$tree/usr/lib/sysimage"
  mv "$tree/var/lib/dpkg" "$tree/usr/lib/sysimage/dpkg"
  rm -rf "$tree"/{target,image,vmlinuz*,initrd*,boot,var,run,dev,proc,sys,tmp,home,root,opt,srv,mnt,media} "$tree/usr/local"
  mkdir "$tree"/{boot,var,run,dev,proc,sys,tmp,sysroot}
  chmod 1777 "$tree/tmp"
  ln -s sysroot/ostree "$tree/ostree"
  ln -s ../var/usrlocal "$tree/usr/local"
  for folder in home opt srv mnt; do ln -s var/$folder "$tree/$folder"; done
  ln -s var/roothome "$tree/root"
  ln -s run/media "$tree/media"
  ;;

layer)
  tree=$2 upper=$3 mode=$4 deb=$5 settings=$6
  mkdir -p "$upper" "$upper.work" "$upper.root"
  hang -t overlay -o "lowerdir=$tree,upperdir=$upper,workdir=$upper.work,redirect_dir=off,metacopy=off,index=off" vm-layer "$upper.root"
  image=$upper.root
  hang -t tmpfs vm-var "$image/var"
  hang -t tmpfs vm-run "$image/run"
  hang -t tmpfs vm-tmp "$image/tmp"
  hang --bind /proc "$image/proc"
  hang --bind /dev "$image/dev"
  mkdir -p "$image"/var/{lib,tmp,log,roothome,home,usrlocal}
  ln -s ../../usr/lib/sysimage/dpkg "$image/var/lib/dpkg"
  # docs/agent.md: "On Debian apt-get install ./bootproof-agent_*.deb"; what it depends on is there.
  cp "$deb" "$image/tmp/agent.deb"
  chroot "$image" env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin dpkg -i /tmp/agent.deb >"$upper.log" 2>&1 || { cat "$upper.log" >&2; exit 1; }
  cp -a "$settings/." "$image/"
  mkdir -p "$image/usr/lib/ostree"
  printf '[composefs]\nenabled = %s\n[sysroot]\nreadonly = true\n' "$mode" >"$image/usr/lib/ostree/prepare-root.conf"
  # The module "ostree" of dracut comes with ostree-boot, is never taken by itself, and copies prepare-root.conf.
  kernel=$(ls "$image/usr/lib/modules")
  chroot "$image" dracut -q -f --no-hostonly --no-early-microcode --reproducible --zstd --kver "$kernel" --add-drivers 'virtio_blk virtio_pci erofs overlay' \
    -m 'base bash systemd systemd-initrd dracut-systemd rootfs-block fs-lib udev-rules ostree' "/usr/lib/modules/$kernel/initramfs.img"
  chmod 644 "$image/usr/lib/modules/$kernel/initramfs.img"
  unmount
  # What overlayfs keeps as a device 0:0 is a whiteout in a layer.
  find "$upper" -type c | while IFS= read -r gone; do
    rm "$gone"
    : >"$(dirname "$gone")/.wh.$(basename "$gone")"
  done
  ;;

pack)
  cd "$2"
  ls -A | tar --create --file="$3" --format=pax --pax-option=delete=atime,delete=ctime --sort=name --numeric-owner --mtime=@0 \
    --xattrs --xattrs-include=security.capability --files-from=-
  ;;

deploy)
  root=$2 disk=$3 image=$4
  rm -f "$disk"
  truncate -s 3G "$disk"
  # ^metadata_csum_seed: mkfs of today sets what an older debugfs does not read.
  mkfs.ext4 -q -L root -O verity -b 4096 "$disk"
  mkdir -p "$root/target" "$root/image"
  hang -o loop "$disk" "$root/target"
  hang --bind "$image" "$root/image"
  hang --bind /proc "$root/proc"
  run() { chroot "$root" "$@"; }
  repo=/target/ostree/repo
  run ostree admin --sysroot=/target init-fs --modern /target
  run ostree admin --sysroot=/target os-init vm
  run ostree --repo=$repo config set sysroot.bootloader none
  # As bootc's ostree-ext does it (store.rs): a commit for each layer, /etc as /usr/etc; checked out over one another, whiteouts applied; then one more.
  n=0
  while IFS= read -r blob; do
    run ostree --repo=$repo commit --branch=layer/$n --tree=tar=/image/"$blob" --tar-autocreate-parents --tar-pathname-filter='^(\./)?etc(/|$),usr/etc\2' >/dev/null
    run ostree --repo=$repo checkout --union --whiteouts --require-hardlinks layer/$n /target/merged
    n=$((n + 1))
  done <"$image/layers"
  run ostree --repo=$repo commit --branch=image --tree=dir=/target/merged --link-checkout-speedup \
    --add-metadata-string=ostree.manifest-digest="$(cat "$image/digest")" --add-metadata-string=version="$(cat "$image/version")" >/dev/null
  rm -rf "$root/target/merged"
  run ostree admin --sysroot=/target deploy --os=vm --origin-file=/image/origin --karg=root=/dev/vda --karg=rw --karg=console=ttyS0 image
  unmount
  ;;

*)
  sed -n '2,8s/^# //p' "$0" >&2
  exit 64
  ;;
esac
