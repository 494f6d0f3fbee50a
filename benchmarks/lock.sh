#!/usr/bin/env bash
# Regenerate the hash-locked requirements of the harness and of every peer.
# Usage: benchmarks/lock.sh [--upgrade]
set -euo pipefail
case ${1:-} in -h | --help) echo "usage: $0 [--upgrade]"; exit ;; esac
cd "$(dirname "$0")"

uv=$PWD/../.venv/bin/uv
[ -x "$uv" ] || { echo "lock: .venv/bin/uv is missing; run: make venv" >&2; exit 1; }

# The peers get the XGBoost that the product has, and else what they ask for.
sed -n 's/^\(xgboost-cpu==[^\\]*[^ \\]\).*/\1/p' ../requirements/runtime.txt >xgboost.txt

for file in requirements.in peers/*/requirements.in; do
    echo "lock: benchmarks/${file%.in}.txt"
    # In its directory, so that the paths which the lock records are the same everywhere.
    (cd "$(dirname "$file")" &&
        UV_CUSTOM_COMPILE_COMMAND="benchmarks/lock.sh" "$uv" pip compile --quiet --no-config \
            --universal --python-version 3.11 --generate-hashes "$@" \
            requirements.in --output-file requirements.txt)
done
