#!/bin/sh
# npm run bench: each figure against a named rival in the same run; writes bench/RESULTS.md.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$here/node.sh"
cd "$here"
exec "$BOOTPROOF_NODE" --disable-warning=ExperimentalWarning bench/main.ts "$@"
