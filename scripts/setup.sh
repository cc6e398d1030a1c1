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
# `-m venv` needs Debian's python3-venv; the check of libraries below names that, too.
missing=()
"$python" -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
"$python" - <<'EOF' || missing+=(libegl1 libgles2 libgl1 libglib2.0-0)
import ctypes, sys
try:
    # What MediaPipe and its OpenCV load when they are imported.
    for name in ("libEGL.so.1", "libGLESv2.so.2", "libGL.so.1", "libgthread-2.0.so.0"):
        ctypes.CDLL(name)
except OSError:
    sys.exit(1)
EOF
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
VIRTUAL_ENV=$PWD/$venv "$uv" pip install --quiet --require-hashes -r requirements/dev.txt
VIRTUAL_ENV=$PWD/$venv "$uv" pip install --quiet --no-deps --editable .
