#!/usr/bin/env bash
# Make .venv with the locked development packages.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
    -h | --help) echo "Usage: scripts/make_venv.sh [PYTHON]   (default: python3; 3.11 to 3.13)"; exit 0 ;;
esac

# What is there is emptied, so it must be this checkout's own environment.
refuse() {
    echo "make_venv: .venv $1, and making an environment would $2; $3, then run make venv again" >&2
    exit 1
}
if [[ -L .venv ]]; then
    refuse "is a symbolic link to $(readlink .venv)" "empty what it points to" \
        "remove the link (rm .venv), or call the programs below .venv/bin without make"
elif [[ -e .venv && ! -d .venv ]]; then
    refuse "is a file" "need a directory there" "move it away"
elif [[ -d .venv && ! -f .venv/pyvenv.cfg && -n $(ls -A .venv) ]]; then
    refuse "is a directory with something else in it" "empty it" "move it away"
fi

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
