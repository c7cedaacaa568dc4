#!/bin/sh
# npm run check: types, lint and format; `--fix` writes the format.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$here/node.sh"
cd "$here"
PATH=$(dirname "$BOOTPROOF_NODE"):$PATH
export PATH
if [ "${1-}" = --fix ]; then node node_modules/oxfmt/bin/oxfmt; else node node_modules/oxfmt/bin/oxfmt --check; fi
node node_modules/typescript/bin/tsc -p .
node node_modules/oxlint/bin/oxlint --type-aware --deny-warnings
