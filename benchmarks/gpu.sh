#!/usr/bin/env bash
# Tests and measurements on a GPU host that has PyTorch and transformers: benchmarks/gpu.sh FOLDER [options of gpu.py].
# What else it lacks (pydantic, peft, TRL ...) may lie as wheels in wheels/, which needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."
output=$1
shift
python=${PYTHON:-python3}
mkdir -p "$output"
if compgen -G "wheels/*.whl" > /dev/null; then
  "$python" -m pip install --quiet --no-index --no-deps --upgrade --target "$output/packages" wheels/*.whl
fi
export PYTHONPATH="$PWD/src:$output/packages${PYTHONPATH:+:$PYTHONPATH}"
"$python" -m pytest -q -m gpu tests || [[ $? == 5 ]] # 5: no GPU, so no test of it
"$python" benchmarks/gpu.py --output "$output" "$@"
