#!/bin/sh
# npm run test:vm: what it needs, then main.ts (README.md).
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)
. "$here/node.sh"
cd "$here"
if [ "$(uname -m)" != x86_64 ]; then echo 'test:vm: the guest is x86-64, and so must this machine be' >&2; exit 2; fi
if [ "$(id -u)" != 0 ]; then echo 'test:vm: it mounts disks and unpacks packages: run it as root' >&2; exit 2; fi
missing=''
for pair in mmdebstrap:mmdebstrap qemu-system-x86_64:qemu-system-x86 mkfs.ext4:e2fsprogs debugfs:e2fsprogs openssl:openssl dpkg-deb:dpkg tar:tar; do
  command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done
if [ -n "$missing" ]; then
  if command -v apt-get >/dev/null; then
    # shellcheck disable=SC2086 # one word each
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >&2 || {
      echo "test:vm: needs the Debian packages$missing, and apt cannot install them here" >&2
      exit 2
    }
  else
    echo "test:vm: needs what Debian has in the packages$missing" >&2
    exit 2
  fi
fi
exec "$BOOTPROOF_NODE" --disable-warning=ExperimentalWarning test/vm/main.ts
