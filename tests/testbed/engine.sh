#!/usr/bin/env bash
# Makes sure that a Docker engine with compose answers. A machine that has one is left as it is; a Debian 12 machine
# without one gets Debian's own packages: five from trixie (bookworm's are too old; these need no newer libc), the rest
# from bookworm. Nothing under /etc/apt changes, and no image or package comes from anywhere but Debian's mirror.
# shellcheck disable=SC1091,SC2016
set -euo pipefail

packages="docker.io docker-cli docker-compose docker-buildx containerd"
log=/var/log/dockerd.log

answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; }
answers && exit 0

# A machine that was copied or stopped keeps pid files. dockerd refuses to start when their number is another program's.
remove_stale_pid() {
  local pid
  [[ -f $1 ]] || return 0
  pid=$(<"$1")
  [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$2" ]] || rm -f "$1"
}

install_from_trixie() {
  local own mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  own=$(. /etc/os-release && echo "$VERSION_CODENAME")
  find_mirror() {
    apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' |
      awk -v suite="$own" '$1 == suite {print $2; exit}'
  }
  mirror=$(find_mirror)
  [[ -n $mirror ]] || { apt-get update -qq && mirror=$(find_mirror); }
  [[ -n $mirror ]] || { echo "engine: this machine has no Docker engine and no Debian mirror to install one from" >&2; exit 1; }

  tmp=$(mktemp -d) # global: the trap outlives this function
  trap 'rm -rf "$tmp"' EXIT
  chmod 755 "$tmp"
  mkdir -p "$tmp/lists/partial" "$tmp/parts"
  {
    apt-get indextargets --format "deb [signed-by=$keyring] \$(REPO_URI) \$(RELEASE) \$(COMPONENT)" \
      'Created-By: Packages' 'Origin: Debian' | sort -u
    echo "deb [signed-by=$keyring] $mirror trixie main"
  } >"$tmp/sources.list"
  printf 'Package: *\nPin: release n=trixie\nPin-Priority: -1\n\nPackage: %s\nPin: release n=trixie\nPin-Priority: 1001\n' \
    "$packages" >"$tmp/pins"
  apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$tmp/sources.list" -o Dir::Etc::sourceparts="$tmp/parts" \
      -o Dir::Etc::preferences="$tmp/pins" -o Dir::State::lists="$tmp/lists" -o Acquire::Retries=3 \
      -o Acquire::Languages=none -o Dpkg::Use-Pty=0 "$@"
  }
  apt update
  # The package's own script must not start a second daemon.
  if [[ ! -e /usr/sbin/policy-rc.d ]]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -rf "$tmp" /usr/sbin/policy-rc.d' EXIT
  fi
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt install -y --no-install-recommends -o Dpkg::Options::=--force-confold \
    $packages iptables >"$tmp/install.log" 2>&1 || { tail -n 40 "$tmp/install.log" >&2; exit 1; }
}

[[ $(id -u) == 0 ]] || { echo "engine: no Docker engine answers; start one, or run this as root on Debian 12" >&2; exit 1; }
if ! command -v dockerd >/dev/null || ! docker compose version >/dev/null 2>&1; then
  echo "engine: installing Debian's packages"
  install_from_trixie
fi
echo "engine: starting dockerd, log in $log"
if [[ -d /run/systemd/system ]]; then
  systemctl start docker
else
  remove_stale_pid /run/docker.pid dockerd
  remove_stale_pid /run/docker/containerd/containerd.pid containerd
  setsid nohup dockerd >>"$log" 2>&1 </dev/null &
fi
for _ in $(seq 120); do answers && break; sleep 0.5; done
answers || { tail -n 30 "$log" >&2; exit 1; }
docker version --format 'engine: {{.Server.Version}}'
