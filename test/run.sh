#!/bin/sh
# npm test: everything that needs no service, on node's own runner; three files at once, because many wait for timers and disks.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$here/node.sh"
cd "$here"
# test/foreign needs programs that are not ours: .ci/run installs them and runs it.
if [ $# -eq 0 ]; then
  set -- --test-global-setup=test/setup.ts 'test/*.test.ts' 'test/{agent,cli,demo,server,src,system}/**/*.test.ts'
fi
# Taking the types off each file anew for each test file costs more than most tests.
NODE_COMPILE_CACHE=${NODE_COMPILE_CACHE-$here/node_modules/.cache/bootproof}
export NODE_COMPILE_CACHE
exec "$BOOTPROOF_NODE" --disable-warning=ExperimentalWarning --test --test-concurrency=3 --test-reporter=spec "$@"
