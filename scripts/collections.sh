#!/usr/bin/env bash
# Puts the collections of requirements.yml into the virtual environment, out of the one PyPI package that bundles them:
# pinned by hash, without Galaxy, and 5 MB instead of 440. usage: collections.sh <venv folder>
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# The collections run on older Pythons than the bundle claims; it is not installed, so its claim does not matter.
"$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
  --python-version 3.14 --dest "$tmp" -r requirements/collections.in
"$venv/bin/python" - "$tmp"/*.whl <<'PY'
import compileall, json, pathlib, sys, sysconfig, zipfile
import yaml

bundle = zipfile.ZipFile(sys.argv[1])
target = sysconfig.get_paths()["purelib"]
for wanted in yaml.safe_load(pathlib.Path("requirements.yml").read_text())["collections"]:
    root = f"ansible_collections/{wanted['name'].replace('.', '/')}/"
    bundle.extractall(target, [name for name in bundle.namelist() if name.startswith(root)])
    info = json.loads(bundle.read(f"{root}MANIFEST.json"))["collection_info"]
    if info["version"] != wanted["version"]:
        sys.exit(f"requirements.yml wants {wanted['name']} {wanted['version']}, the bundle has {info['version']}")
    # Compiled once here, not by each process of each task where nothing may be cached.
    compileall.compile_dir(f"{target}/{root}", quiet=2)
PY
