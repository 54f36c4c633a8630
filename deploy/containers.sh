#!/usr/bin/env bash
# Runs a command with a Docker Engine of its own, with Compose, on a Debian machine where no image registry is in reach.
# usage: deploy/containers.sh FOLDER COMMAND...
# Images, volumes and the socket are in FOLDER, apart from those of a Docker that the machine may have. The base images
# are stood in for, under the names that the project's files use, by ones made of Debian's packages
# (deploy/stand-ins/Dockerfile). The engine ends with the command.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: deploy/containers.sh FOLDER COMMAND..." >&2; exit 2; }
here=$(dirname "$(realpath "$0")")
folder=$(realpath -m "$1")
shift
mkdir -p "$folder/config/cli-plugins"
sources=(/etc/apt/sources.list /etc/apt/sources.list.d/*)
mirror=$(cat "${sources[@]}" 2>/dev/null | grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n 1 | tr -d ' ' || true)
[ -n "$mirror" ] || { echo "apt has no Debian mirror here: no containers for the tests" >&2; exit 1; }

if ! command -v dockerd >/dev/null || ! command -v debootstrap >/dev/null; then
  # RUNLEVEL keeps the packages from starting an engine of their own.
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  packages=(docker.io debootstrap iptables)
  # Debian's newer suites have the command in a package of its own.
  if apt-cache show docker-cli >/dev/null 2>&1; then packages+=(docker-cli); fi
  RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
compose=$folder/config/cli-plugins/docker-compose
if [ ! -x "$compose" ]; then
  # Debian's stable of 2023 has no Compose with `docker compose`; the next one's program runs there too.
  work=$(mktemp -d)
  mkdir -p "$work/lists/partial" "$work/cache/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$work/sources.list"
  own_apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists" \
      -o Dir::Cache::archives="$work/cache" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
      -o APT::Sandbox::User=root "$@"
  }
  own_apt update
  (cd "$work" && own_apt download docker-compose && dpkg -x docker-compose_*.deb files)
  install "$work/files/usr/libexec/docker/cli-plugins/docker-compose" "$compose"
  rm -rf "$work"
fi

export DOCKER_HOST=unix://$folder/docker.sock DOCKER_CONFIG=$folder/config
# A machine that lacks CAP_SYS_RESOURCE refuses the engine's default limits.
dockerd --host "$DOCKER_HOST" --data-root "$folder/data" --exec-root "$folder/run" --pidfile "$folder/pid" \
  --default-ulimit nofile=1024:4096 --default-ulimit nproc=4096:4096 >"$folder/engine.log" 2>&1 &
engine=$!
# The command's own end decides the status; the engine stops what still runs.
trap 'kill "$engine" 2>/dev/null; wait "$engine" 2>/dev/null || true' EXIT
for _ in $(seq 120); do docker version >/dev/null 2>&1 && break; kill -0 "$engine" && sleep 0.5; done
docker version >/dev/null || { tail -n 5 "$folder/engine.log" >&2; exit 1; }

if ! docker image inspect stand-in:debian >/dev/null 2>&1; then
  root=$(mktemp -d)
  debootstrap --variant=minbase --include=ca-certificates,python3-venv trixie "$root" "$mirror" >/dev/null
  # The image's packages come from where this machine has its own.
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  mkdir -p "$root/etc/uv"
  echo 'system-certs = true' >"$root/etc/uv/uv.toml"
  if index=$(python3 -m pip config get global.index-url 2>/dev/null); then
    printf '[global]\nindex-url = %s\n' "$index" >"$root/etc/pip.conf"
    printf 'index-url = "%s"\n' "$index" >>"$root/etc/uv/uv.toml"
  fi
  tar -C "$root" -c . | docker import - stand-in:debian >/dev/null
  rm -rf "$root"
fi
# Each image that a file of the project names, if there is a stage for it: the part of its name behind the last slash.
grep -hoE '^FROM [^ ]+:[^ ]+|image: [a-z][a-z/]*:[^ {]+' "$here/docker/Dockerfile" "$here/../docker-compose.yml" | awk '{print $2}' | sort -u |
  while read -r name; do
    stage=${name##*/}
    stage=${stage%%:*}
    grep -q " AS $stage\$" "$here/stand-ins/Dockerfile" || continue
    docker image inspect "$name" >/dev/null 2>&1 && continue
    DOCKER_BUILDKIT=0 docker build --quiet --network host --build-arg MIRROR="$mirror" --target "$stage" --tag "$name" "$here/stand-ins" >/dev/null
  done
"$@"
