#!/bin/sh
# npm test: everything that needs no service, on node's own runner; three files at once, because many wait for timers and disks.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$here/node.sh"
cd "$here"
# Taking the types off each file anew for each test file costs more than most tests.
NODE_COMPILE_CACHE=${NODE_COMPILE_CACHE-$here/node_modules/.cache/bootproof}
export NODE_COMPILE_CACHE
# Tests write much and keep nothing: in memory, where there is plenty and programs may be started, no disk makes them wait.
if [ -z "${TMPDIR-}" ] && memory=$(mktemp -d /dev/shm/bootproof-XXXXXX 2>/dev/null); then
  cp /bin/true "$memory/true" 2>/dev/null || :
  if [ "$(df -Pk /dev/shm | awk 'NR == 2 { print $4 }')" -gt 6000000 ] && "$memory/true" 2>/dev/null &&
    [ "$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)" -gt 9000000 ]; then
    TMPDIR=/dev/shm
    export TMPDIR
  fi
  rm -rf "$memory"
fi
# test/foreign needs programs that are not ours: .ci/run installs them and runs it.
if [ $# -eq 0 ]; then
  together=$(mktemp -d)
  trap 'rm -rf "$together"' EXIT
  trap 'exit 130' INT TERM
  files=$("$BOOTPROOF_NODE" --disable-warning=ExperimentalWarning test/together.ts "$together")
  IFS='
'
  # shellcheck disable=SC2086 # one name a line
  set -- --test-global-setup=test/setup.ts $files
  unset IFS
fi
# With every core busy, threads that help to collect garbage take more from the others than they give; and what tests leave is young.
"$BOOTPROOF_NODE" --disable-warning=ExperimentalWarning --min-semi-space-size=16 --max-semi-space-size=32 --single-threaded-gc \
  --import ./test/unhooked.ts --test --test-concurrency=3 --test-reporter=spec "$@"
