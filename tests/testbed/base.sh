#!/usr/bin/env bash
# base.sh SUITE...: minimal Debian images testbed/debian:SUITE, made by mmdebstrap from the machine's own mirror.
# Kept as a tarball in .cache/, so that a wiped engine gets it back at once; an image of the same recipe is left alone.
# shellcheck disable=SC1091,SC2016
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=$PWD/.cache/testbed
mkdir -p "$cache"

own=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror() {
  apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' |
    awk -v suite="$own" '$1 == suite {print $2; exit}'
}
[[ -n $(mirror) ]] || apt-get update -qq
uri=$(mirror) # empty on Ubuntu: mmdebstrap then takes Debian's own
if [[ ! -f /usr/share/keyrings/debian-archive-keyring.gpg ]] || ! command -v mmdebstrap >/dev/null; then
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap debian-archive-keyring >/dev/null
fi

options=(
  --variant=minbase --include=ca-certificates --keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  # A mirror may lag behind the clock; testing suites carry a Valid-Until of a week.
  --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Check-Date "false"'
  --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' --aptopt='APT::Install-Recommends "false"'
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*'
  --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt=force-unsafe-io
)
for suite in "$@"; do
  image=testbed/debian:$suite
  key=$(printf '%s\n' "$suite" "$uri" "${options[@]}" | sha256sum | cut -c1-16)
  tarball=$cache/debian-$suite-$key.tar
  [[ $(docker image inspect -f '{{index .Config.Labels "testbed.key"}}' "$image" 2>/dev/null) == "$key" ]] && continue
  if [[ ! -s $tarball ]]; then
    echo "testbed: building Debian $suite"
    mmdebstrap --quiet --format=tar "${options[@]}" "$suite" "$tarball.part" ${uri:+"$uri"}
    mv "$tarball.part" "$tarball"
  fi
  docker import --change "LABEL testbed.key=$key" --change 'CMD ["bash"]' --change 'ENV DEBIAN_FRONTEND=noninteractive' \
    "$tarball" "$image" >/dev/null
done
