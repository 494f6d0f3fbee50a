#!/usr/bin/env bash
# Regenerate requirements/*.txt from requirements/*.in: exact versions with hashes, one file for
# every Python that we support.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
    -h | --help) echo "Usage: scripts/lock.sh [--upgrade]   (and what else 'uv pip compile' takes)"; exit 0 ;;
esac
uv=.venv/bin/uv
[ -x "$uv" ] || { echo "lock: .venv/bin/uv is missing; run: make venv" >&2; exit 1; }

# In this order: mms is constrained by full.
for name in runtime runtime-gpu full full-gpu mms installer dev; do
    echo "lock: requirements/$name.txt"
    UV_CUSTOM_COMPILE_COMMAND="make lock" "$uv" pip compile --quiet --no-config --universal \
        --python-version 3.11 --generate-hashes "$@" \
        "requirements/$name.in" --output-file "requirements/$name.txt"
done
