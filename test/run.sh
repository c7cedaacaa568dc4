#!/bin/sh
# npm test: everything that needs no service, on node's own runner; three files at once, because many wait for timers and disks.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$here/node.sh"
cd "$here"
# Taking the types off each file anew for each test file costs more than most tests.
NODE_COMPILE_CACHE=${NODE_COMPILE_CACHE-$here/node_modules/.cache/bootproof}
export NODE_COMPILE_CACHE
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
"$BOOTPROOF_NODE" --disable-warning=ExperimentalWarning --test --test-concurrency=3 --test-reporter=spec "$@"
