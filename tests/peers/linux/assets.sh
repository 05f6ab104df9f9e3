#!/bin/bash
# Makes OUT/vmlinuz and OUT/initramfs.gz from Debian packages; the kernel's is only unpacked.
#   assets.sh OUT
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
out=$(realpath -m "$1")
mkdir -p "$out/debs"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

apt_get() { apt-get -qq -o DPkg::Lock::Timeout=300 -o APT::Sandbox::User=root "$@" >/dev/null; }
meta=linux-image-cloud-amd64
apt-cache show $meta >/dev/null 2>&1 || apt_get update
command -v ip >/dev/null || apt_get install -y --no-install-recommends iproute2
kernel=$(apt-cache depends $meta | awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ {print $2; exit}')
for package in "$kernel" busybox-static; do
  compgen -G "$out/debs/${package}_*.deb" >/dev/null ||
    (cd "$out/debs" && { apt_get download "$package" || { apt_get update && apt_get download "$package"; }; })
  dpkg -x "$(compgen -G "$out/debs/${package}_*.deb" | tail -1)" "$tmp/deb"
done
busybox=$(find "$tmp/deb" -type f -path '*bin/busybox' -print -quit)
modules=$(find "$tmp/deb" -type d -path '*lib/modules/*' -print -quit)
release=$(basename "$modules")

root=$tmp/root
mkdir -p "$root"/{bin,dev,proc,sys,lib64,lib/modules/"$release"}
ln -s bin "$root/sbin"
cp "$busybox" "$root/bin/busybox"
cp -L "$(command -v ip)" "$root/bin/ip"
ldd "$root/bin/ip" | grep -o '/[^ ]*' | while read -r library; do
  mkdir -p "$root$(dirname "$library")" && cp -L "$library" "$root$library"
done

# The named modules and what they depend on. What this kernel has built in, or lacks, is passed over.
find "$modules" -name '*.ko.xz' -exec xz -d {} +
find "$modules" -name '*.ko.zst' -exec zstd -q --rm -d {} +
declare -A file
while read -r path; do
  name=$(basename "$path" .ko)
  file[${name//-/_}]=${path#"$modules"/}
done < <(find "$modules" -name '*.ko')
add() {
  local path=${file[${1//-/_}]:-}
  if [ -z "$path" ] || [ -e "$root/lib/modules/$release/$path" ]; then return 0; fi
  mkdir -p "$root/lib/modules/$release/$(dirname "$path")"
  cp "$modules/$path" "$root/lib/modules/$release/$path"
  for needed in $(tr '\0' '\n' <"$modules/$path" | sed -n 's/^depends=//p' | tr , ' '); do add "$needed"; done
}
for name in virtio_pci virtio_net xfrm_user xfrm_algo esp4 gcm ctr ghash-generic ghash-clmulni-intel aesni-intel \
  seqiv echainiv crypto_null drbg jitterentropy_rng hmac sha512_generic sha512-ssse3 sha256-ssse3; do add $name; done
cp "$modules"/modules.{builtin,order} "$root/lib/modules/$release/"
"$root/bin/busybox" depmod -b "$root" "$release"

cat >"$root/init" <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for name in virtio_pci virtio_net xfrm_user esp4; do modprobe $name 2>/dev/null; done
for i in 1 2 3 4 5 6 7 8 9 10; do [ -e /sys/class/net/eth0 ] && break; sleep 0.1; done
# No frame that the test did not ask for.
echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6
ip() { /bin/ip "$@"; } # busybox would take its own
ip link set eth0 up
stty -F /dev/ttyS1 raw -echo
exec </dev/ttyS1 >/dev/ttyS1 2>&1
echo "@@ready $(uname -r)"
while IFS= read -r line; do
  eval "$line" </dev/null
  echo "@@rc=$?"
done
poweroff -f
END
chmod 755 "$root/init"
cp "$(find "$tmp/deb/boot" -name 'vmlinuz-*' -print -quit)" "$out/vmlinuz"
(cd "$root" && find . | sort | bin/busybox cpio -o -H newc -R 0:0 2>/dev/null | gzip -9n) >"$tmp/initramfs.gz"
mv "$tmp/initramfs.gz" "$out/initramfs.gz"
