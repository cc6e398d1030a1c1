#!/usr/bin/env bash
# Fetches the programs that read the rendered files: nginx, prometheus, promtool, amtool and docker-compose.
# Debian and Ubuntu get them out of Debian's packages, unpacked: no package is installed and no service starts, so that
# root is not needed. Root also gets openssl, node, npm and a browser installed. Other systems get the command to type.
# usage: programs.sh <folder>
set -euo pipefail
folder=${1:?usage: programs.sh <folder>}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
suite=forky # Debian 13's nginx does not know all directives of the stack; the test bed's images are of this suite, too
packages=(prometheus promtool prometheus-alertmanager docker-compose nginx)
libraries=(libc6 libcrypt1 libpcre2-8-0 libssl3t64 zlib1g) # nginx wants newer ones than an older Debian has
files=(usr/bin/prometheus usr/bin/promtool usr/bin/amtool usr/libexec/docker/cli-plugins/docker-compose)

refuse() { # what is missing, the command that brings it
  echo "make test needs $1 on this machine; type: $2" >&2
  exit 1
}

missing() { # programs -> those that are not on this machine
  for program in "$@"; do command -v "$program" >/dev/null || printf '%s ' "$program"; done
}

install_from_own_suite() { # packages
  local install="apt-get install -y --no-install-recommends $*"
  [[ $(id -u) == 0 ]] || refuse "the packages $*" "sudo $install"
  echo "Installing system packages: $*"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $install -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 >/dev/null
}

require_system_packages() {
  local lacking=()
  command -v openssl >/dev/null || lacking+=(openssl)
  command -v node >/dev/null || lacking+=(nodejs)
  command -v npm >/dev/null || lacking+=(npm)
  [[ -f $keyring ]] || lacking+=(debian-archive-keyring)
  [[ $(missing chromium google-chrome | wc -w) -lt 2 ]] || lacking+=(chromium) # the page to try estimates
  compgen -G "/usr/lib/*/libmagic.so.1" >/dev/null || lacking+=(libmagic1) # neonize, in the bridge
  ((${#lacking[@]} == 0)) || install_from_own_suite "${lacking[@]}"
}

mirror() { # where this machine gets Debian from
  # shellcheck disable=SC2016
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | awk 'NR == 1'
}

unpack_from_suite() {
  local tmp archive
  archive=$(mirror)
  [[ -n $archive ]] || refuse "Debian's archive among apt's sources" "apt-get update, after adding Debian's archive to them"
  tmp=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$tmp'" EXIT
  mkdir -p "$tmp/lists/partial" "$tmp/parts" "$tmp/debs" "$tmp/root"
  echo "deb [signed-by=$keyring] $archive $suite main" >"$tmp/sources.list"
  apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$tmp/sources.list" -o Dir::Etc::sourceparts="$tmp/parts" \
      -o Dir::State::lists="$tmp/lists" -o Dir::Cache="$tmp" -o Acquire::Languages=none -o Acquire::Retries=3 \
      -o APT::Sandbox::User="" "$@"
  }
  echo "Fetching ${packages[*]} from Debian $suite into $folder"
  apt update
  (cd "$tmp/debs" && apt download "${packages[@]/%//$suite}" "${libraries[@]/%//$suite}")
  for package in "$tmp"/debs/*.deb; do dpkg-deb --extract "$package" "$tmp/root"; done
  mkdir -p "$folder"
  install -t "$folder" "${files[@]/#/$tmp/root/}"
  install_with_libraries "$tmp/root" nginx
}

install_with_libraries() { # folder of unpacked packages, program
  local libraries
  libraries=$(realpath "$folder")/../lib/$2
  mkdir -p "$libraries"
  cp "$1/usr/lib/$(uname -m)-linux-gnu"/lib{c,crypt,crypto,pcre2-8,ssl,z}.so.[0-9] \
    "$1/usr/lib/$(uname -m)-linux-gnu"/ld-linux-*.so.[0-9] "$1/usr/sbin/$2" "$libraries"
  printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' \
    "$libraries"/ld-linux-*.so.[0-9] "$libraries" "$libraries/$2" >"$folder/$2"
  chmod 755 "$folder/$2"
}

if command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
  require_system_packages
  unpack_from_suite
  exit
fi
absent=$(missing nginx prometheus promtool amtool docker-compose openssl node npm)
[[ -z $absent ]] || refuse "${absent% }" "brew install nginx prometheus alertmanager docker-compose openssl node"
