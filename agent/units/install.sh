#!/bin/sh
# Puts agent, Node and units into the tree of an image: install.sh DESTDIR, in a checkout after npm ci (docs/agent.md).
# Writes below DESTDIR/usr alone. Settings and enrolment are the site's.
set -eu
[ $# -eq 1 ] || { echo 'usage: install.sh DESTDIR' >&2; exit 64; }
units=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
here=$(dirname -- "$(dirname -- "$units")")
. "$here/node.sh"
lib=$1/usr/lib
mkdir -p "$lib/bootproof/node_modules/@noble" "$lib/systemd/system/timers.target.wants" \
  "$lib/systemd/system/bootc-status-updated.target.wants" "$lib/sysusers.d" "$lib/tmpfiles.d"

# All that the agent imports: no server, no database, no install scripts.
cp -R "$here/package.json" "$here/src" "$lib/bootproof/"
mkdir -p "$lib/bootproof/agent"
cp "$here"/agent/*.ts "$lib/bootproof/agent/"
cp -R "$here/node_modules/zod" "$lib/bootproof/node_modules/"
cp -R "$here/node_modules/@noble/hashes" "$lib/bootproof/node_modules/@noble/"
cp "$BOOTPROOF_NODE" "$lib/bootproof/node"
cat >"$lib/bootproof/bootproof" <<'LAUNCHER'
#!/bin/sh
# The agent alone: `bootproof agent …`.
if [ "${1-}" = agent ]; then shift; fi
exec /usr/lib/bootproof/node --disable-warning=ExperimentalWarning /usr/lib/bootproof/agent/main.ts "$@"
LAUNCHER

for unit in "$units"/*.service "$units"/*.timer; do cp "$unit" "$lib/systemd/system/"; done
cp "$units/bootproof.sysusers" "$lib/sysusers.d/bootproof.conf"
cp "$units/bootproof.tmpfiles" "$lib/tmpfiles.d/bootproof.conf"
# Enabled by links in /usr, which the manifest holds, rather than in /etc, which a host may change.
ln -sf ../bootproof-agent.timer "$lib/systemd/system/timers.target.wants/"
ln -sf ../bootproof-agent.service "$lib/systemd/system/bootc-status-updated.target.wants/"
# The checkout's umask must not decide who may run the agent.
chmod -R u=rwX,go=rX "$lib/bootproof"
chmod 0755 "$lib/bootproof/node" "$lib/bootproof/bootproof"
