#!/usr/bin/env bash
# Make .venv with the locked development packages.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
    -h | --help) echo "Usage: scripts/make_venv.sh [PYTHON]   (default: python3; 3.11 to 3.13)"; exit 0 ;;
esac
python=${1:-python3}
command -v "$python" >/dev/null || {
    echo "make_venv: no '$python' on PATH; install Python 3.11 to 3.13 or pass PYTHON=..." >&2
    exit 1
}
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || {
    echo "make_venv: $("$python" --version) is not supported; use Python 3.11 to 3.13" \
        "(make PYTHON=python3.12 ...)" >&2
    exit 1
}
"$python" -c 'import ensurepip, venv' 2>/dev/null || {
    echo "make_venv: $python cannot make virtual environments; on Debian: apt-get install python3-venv" >&2
    exit 1
}

echo "venv: installing the locked packages into .venv (about 250 MB, once) …"
"$python" -m venv --clear .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --require-hashes --requirement requirements/dev.txt
touch .venv/.complete
echo "venv: ready"
