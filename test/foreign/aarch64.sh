#!/bin/sh
# aarch64.sh DIR: unpacks into DIR what the agent for arm64 needs beside itself, from Debian's packages: for qemu-aarch64-static -L DIR.
# Nothing is installed, and apt's own lists stay as they are.
set -eu
root=$(CDPATH='' cd -- "$1" && pwd -P)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
: >"$work/status"
chmod -R a+rwX "$work"
arm() {
  apt-get -q -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Dir::State::lists="$work/lists" \
    -o Dir::Cache="$work/cache" -o Dir::State::status="$work/status" -o Acquire::Retries=3 "$@"
}
arm update >/dev/null
cd "$work"
arm download libc6 libstdc++6 libgcc-s1 libatomic1 >/dev/null
for package in *.deb; do dpkg-deb -x "$package" "$root"; done
