#!/bin/sh
# npm test: everything that needs no service, on node's own runner.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$here/node.sh"
cd "$here"
if [ $# -eq 0 ]; then set -- 'test/**/*.test.ts'; fi
exec "$BOOTPROOF_NODE" --disable-warning=ExperimentalWarning --test --test-reporter=spec "$@"
