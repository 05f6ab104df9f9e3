#!/bin/bash
# Boots the peer in the foreground: RUN/ctl.sock takes lines of shell, RUN/guest.sock frames; its frames go to RUN/host.sock.
#   boot.sh ASSETS RUN
set -euo pipefail
assets=$(realpath "$1") run=$(realpath -m "$2")
if ! command -v qemu-system-x86_64 >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq -o DPkg::Lock::Timeout=300 update
  apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends qemu-system-x86 >/dev/null
fi
mkdir -p "$run"
# A path of a UNIX socket has room for 107 bytes.
cd "$run"
rm -f ctl.sock guest.sock
exec qemu-system-x86_64 -M q35 -accel tcg -cpu max -m 192 -nodefaults -no-user-config -display none -no-reboot \
  -kernel "$assets/vmlinuz" -initrd "$assets/initramfs.gz" \
  -append "console=ttyS0 quiet panic=-1 net.ifnames=0 mitigations=off random.trust_cpu=on" \
  -chardev file,id=con,path=console.log -serial chardev:con \
  -chardev socket,id=ctl,path=ctl.sock,server=on,wait=off -serial chardev:ctl \
  -netdev dgram,id=n0,local.type=unix,local.path=guest.sock,remote.type=unix,remote.path=host.sock \
  -device virtio-net-pci,romfile=,netdev=n0,mac=02:00:00:00:00:02
