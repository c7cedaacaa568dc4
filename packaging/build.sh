#!/bin/sh
# npm run build:agent: on the Node that npm brought.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$here/node.sh"
exec "$BOOTPROOF_NODE" --disable-warning=ExperimentalWarning "$here/packaging/build.ts" "$@"
