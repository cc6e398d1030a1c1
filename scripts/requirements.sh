#!/usr/bin/env bash
# Compiles requirements/*.txt from pyproject.toml: pinned, hashed, for every platform, naming no package index.
# requirements.sh [--upgrade]; the test of the same name runs it with OUT=<folder> to see whether they are stale.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-requirements}
uv=$(command -v uv || echo .venv/bin/uv)

compile() { # name, options
  local name=$1
  shift
  [[ $out == requirements ]] || cp "requirements/$name.txt" "$out/$name.txt" # pins are kept unless --upgrade is given
  "$uv" pip compile --quiet "$@" --universal --python-version 3.11 \
    --generate-hashes --no-header --no-emit-index-url -o "$out/$name.txt"
}
compile runtime pyproject.toml "$@"
compile bridge --group bridge "$@" # an image of its own
compile gpu --group gpu --no-deps "$@" # instead of one package of runtime.txt
compile dev pyproject.toml --group dev "$@"
compile infra pyproject.toml --group infra --constraint requirements/dev.txt "$@" # installed beside dev.txt: shared packages must agree
