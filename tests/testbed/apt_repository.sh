#!/bin/sh
# Runs while the image is built: repacks Debian's engine under the names of Docker's own repository, and signs the lists.
# The programs are trixie's in both suites: they need no newer libc than bookworm's; runc, tini and iptables are the host's own.
set -eu
root=/srv/apt
cd "$(mktemp -d)"
apt-get -qq -o APT::Sandbox::User=root download docker.io docker-cli containerd docker-compose

repack() { # Debian's name, Docker's name, format of the version, dependencies
  rm -rf package
  dpkg-deb -R "$1"_*.deb package
  upstream=$(sed -n 's/^Version: //p' package/DEBIAN/control | sed 's/[+~-].*//')
  # shellcheck disable=SC2059 # the format is the argument
  version=$(printf "$3" "$upstream")
  awk -v package="$2" -v version="$version" -v depends="$4" '
    /^(Source|Depends|Recommends|Suggests|Breaks|Replaces|Conflicts|Provides|Pre-Depends|[A-Za-z-]*Built-Using):/ {skip=1; next}
    /^ / {if (skip) next}
    /^[^ ]/ {skip=0}
    /^Package:/ {print "Package: " package; next}
    /^Version:/ {print "Version: " version; print "Depends: " depends; next}
    {print}' package/DEBIAN/control >control
  mv control package/DEBIAN/control
  rm -rf package/usr/share/doc package/usr/share/man package/DEBIAN/md5sums
  dpkg-deb --root-owner-group -Znone -b package "$pool/$2_${version#*:}_amd64.deb" >/dev/null
}
export GNUPGHOME=/tmp/gpg
mkdir -m 700 $GNUPGHOME
gpg -q --batch --passphrase '' --quick-gen-key 'testbed apt <apt@example.test>' ed25519 sign never

for release in 12:bookworm 13:trixie; do
  suite=${release#*:}
  built="~debian.${release%:*}~$suite"
  pool=$root/dists/$suite/pool
  mkdir -p "$pool" "$root/dists/$suite/stable/binary-amd64"
  repack docker.io docker-ce "5:%s-1$built" "containerd.io, docker-ce-cli, iptables, libc6, libsystemd0, tini"
  repack docker-cli docker-ce-cli "5:%s-1$built" "libc6"
  repack containerd containerd.io "%s-1$built" "runc, libc6"
  repack docker-compose docker-compose-plugin "%s-1$built" "libc6"
  (
    cd "$root"
    dpkg-scanpackages "dists/$suite/pool" >"dists/$suite/stable/binary-amd64/Packages" 2>/dev/null
    field=APT::FTPArchive::Release
    apt-ftparchive -o $field::Origin=Docker -o $field::Label="Docker CE" -o $field::Suite="$suite" \
      -o $field::Codename="$suite" -o $field::Components=stable -o $field::Architectures=amd64 \
      release "dists/$suite" >/tmp/Release
    mv /tmp/Release "dists/$suite/Release"
    gpg -q --batch --clearsign -o "dists/$suite/InRelease" "dists/$suite/Release"
  )
done
gpg -q --armor --export --output "$root/gpg"
