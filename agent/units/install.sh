#!/bin/sh
# Puts agent and units into the tree of an image, or of a package: install.sh DESTDIR [EXECUTABLE] (docs/agent.md). EXECUTABLE, as
# `npm run build:agent` makes it, is the one in dist/ for this machine unless it is named. Writes below DESTDIR/usr alone. Settings and
# enrolment are the site's.
set -eu
units=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
here=$(dirname -- "$(dirname -- "$units")")
case $(uname -m) in x86_64) machine=x64 ;; aarch64) machine=arm64 ;; *) machine=$(uname -m) ;; esac
[ $# -eq 1 ] || [ $# -eq 2 ] || { echo 'usage: install.sh DESTDIR [EXECUTABLE]' >&2; exit 64; }
executable=${2-$here/dist/bootproof-agent-linux-$machine}
[ -f "$executable" ] || { echo "install.sh: $executable is not there: 'npm run build:agent' makes it" >&2; exit 64; }
lib=$1/usr/lib
libexec=$1/usr/libexec/bootproof
doc=$1/usr/share/doc/bootproof-agent
# Neither the caller's umask nor the checkout's decides who may run the agent.
umask 022
mkdir -p "$lib/bootproof" "$lib/systemd/system/timers.target.wants" "$lib/systemd/system/bootc-status-updated.target.wants" \
  "$lib/systemd/system-preset" "$lib/sysusers.d" "$lib/tmpfiles.d" "$libexec" "$doc"

install -m 0755 "$executable" "$libexec/agent"
install -m 0755 "$units/bootproof" "$libexec/bootproof"
ln -sf ../../libexec/bootproof/bootproof "$lib/bootproof/bootproof"
text() { install -m 0644 "$1" "$2"; }
text "$units/agent.json.example" "$lib/bootproof/agent.json.example"
for unit in "$units"/*.service "$units"/*.timer; do text "$unit" "$lib/systemd/system/${unit##*/}"; done
text "$units/bootproof.preset" "$lib/systemd/system-preset/80-bootproof.preset"
text "$units/bootproof.sysusers" "$lib/sysusers.d/bootproof.conf"
text "$units/bootproof.tmpfiles" "$lib/tmpfiles.d/bootproof.conf"
# Enabled by links in /usr, which the manifest holds, rather than in /etc alone, which a host may change.
ln -sf ../bootproof-agent.timer "$lib/systemd/system/timers.target.wants/"
ln -sf ../bootproof-agent.service "$lib/systemd/system/bootc-status-updated.target.wants/"
text "$here/LICENSE" "$doc/LICENSE"
text "$here/node_modules/zod/LICENSE" "$doc/LICENSE.zod"
text "$here/node_modules/@noble/hashes/LICENSE" "$doc/LICENSE.noble-hashes"
# The same text for every machine.
for licence in "$here"/node_modules/node-linux-*/LICENSE; do text "$licence" "$doc/LICENSE.node"; done
