#!/usr/bin/env bash
# Proves a built wheel in a fresh environment outside the checkout: prove_wheel.sh WHEEL
set -euo pipefail
wheel=$(realpath "$1")
lock=$(realpath requirements.lock)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp .python-version "$folder"
cd "$folder"
"$UV" venv --quiet
export VIRTUAL_ENV=$folder/.venv
"$UV" pip install --quiet --constraint <(grep -oE '^[a-zA-Z0-9_.-]+==[^ ;]+' "$lock") "$wheel"
.venv/bin/python - <<'PYTHON'
import importlib.util
from importlib.metadata import files

import pyro_vae

assert "site-packages" in pyro_vae.__file__, pyro_vae.__file__
top = {path.parts[0] for path in files("pyro-vae") if ".." not in path.parts}
assert top == {"pyro_vae", f"pyro_vae-{pyro_vae.__version__}.dist-info"}, top
for name in ("models", "guides", "inference"):
    assert importlib.util.find_spec(name) is None, name
    assert importlib.util.find_spec(f"pyro_vae.{name}") is not None, name
PYTHON
.venv/bin/pyro-vae train --samples 20000 --out run
.venv/bin/python -m pyro_vae evaluate run --limit 10 --json
.venv/bin/pyro-vae analyze run --limit 4 --chains 2 --draws 8 --warmup 4 --quick
echo "the wheel $(basename "$wheel") works on its own"
