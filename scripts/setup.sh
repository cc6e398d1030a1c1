#!/usr/bin/env bash
# Creates the virtual environment with everything that development, tests and the demo need.
# Works on a machine with nothing but Python 3.11+ and make; usage: setup.sh <venv folder>
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "Python $("$python" -V 2>&1 | cut -d' ' -f2) is too old: 3.11 or newer is needed. Name another one: make PYTHON=python3.12" >&2
  exit 1
}
missing=()
"$python" -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
if ((${#missing[@]})); then
  install="apt-get install -y --no-install-recommends ${missing[*]}"
  if [[ $(id -u) == 0 && -f /etc/debian_version ]]; then
    echo "Installing system packages: ${missing[*]}"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive $install -qq
  else
    echo "These system packages are missing. On Debian or Ubuntu: sudo $install" >&2
    exit 1
  fi
fi

[[ -x $venv/bin/python ]] || "$python" -m venv "$venv"
if command -v uv >/dev/null; then uv=uv; else
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv
  uv=$venv/bin/uv
fi
echo "Installing Python packages into $venv"
# Compiled once here, not by every worker that a test starts (2 s of processor time each where nothing may be cached).
VIRTUAL_ENV=$PWD/$venv "$uv" pip install --quiet --compile-bytecode --require-hashes -r requirements/dev.txt
VIRTUAL_ENV=$PWD/$venv "$uv" pip install --quiet --target "$venv/bridge" --require-hashes -r requirements/bridge.txt
VIRTUAL_ENV=$PWD/$venv "$uv" pip install --quiet --no-deps --editable .
