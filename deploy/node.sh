#!/usr/bin/env bash
# A Bitcoin node for the tests, in a folder of its own: nothing is installed on the system.
# Debian has one in its unstable suite only, built against a newer C library than that of most machines: its libraries
# are unpacked beside it, and it is run by their own loader. The mirror is the one that this machine's apt uses.
set -euo pipefail
folder=$(realpath -m "${1:?usage: deploy/node.sh FOLDER}")
[ ! -x "$folder/bitcoind" ] || exit 0
sources=(/etc/apt/sources.list /etc/apt/sources.list.d/*)
mirror=$(cat "${sources[@]}" 2>/dev/null | grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n 1 | tr -d ' ' || true)
[ -n "$mirror" ] || { echo "apt has no Debian mirror here: no node for the tests" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir -p "$work/lists/partial" "$work/cache/partial" "$work/debs"
for suite in sid trixie; do
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
done >"$work/sources.list"
own_apt() {
  apt-get -qq -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists" \
    -o Dir::Cache::archives="$work/cache" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
    -o APT::Sandbox::User=root "$@"
}
own_apt update
libraries=(libc6 libstdc++6 libgcc-s1 libevent-core-2.1-7t64 libevent-extra-2.1-7t64 libevent-pthreads-2.1-7t64
  libsqlite3-0 libzmq5 libsodium23 libnorm1t64 libpgm-5.3-0t64 libgssapi-krb5-2 libkrb5-3 libk5crypto3 libkrb5support0
  libcom-err2 libkeyutils1 libbsd0 libmd0 libssl3t64 libxml2 libzstd1 zlib1g)
cd "$work/debs"
own_apt download bitcoin-knots/sid "${libraries[@]/%//trixie}"
mkdir -p "$folder/files"
for package in *.deb; do dpkg -x "$package" "$folder/files"; done
loader=$(find "$folder/files/usr" -name 'ld-linux-*.so.*' | head -n 1)
libraries_at=$(dirname "$(find "$folder/files/usr/lib" -name 'libzmq.so.5' | head -n 1)")
for program in bitcoind bitcoin-cli; do
  printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' "$loader" "$libraries_at" "$folder/files/usr/bin/$program" \
    >"$folder/$program"
  chmod +x "$folder/$program"
done
"$folder/bitcoind" -version | head -n 1
