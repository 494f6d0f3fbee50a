#!/usr/bin/env bash
# Train IMAGE on test_dir/, which plays /opt/ml and gets real data on first use.
set -euo pipefail
usage="usage: $0 IMAGE"
case $#:${1:-} in 1:[!-]*) ;; 1:-h | 1:--help) echo "$usage"; exit ;; *) echo "$usage" >&2; exit 2 ;; esac

here=$(cd "$(dirname "$0")" && pwd)
python=$here/../.venv/bin/python
[ -x "$python" ] || python=python3
export PYTHONPATH=$here/.. PYTHONSAFEPATH=1
[ -d "$here/test_dir/input/config" ] || "$python" -m local_test prepare "$here/test_dir"
exec "$python" -m local_test train "$here/test_dir" --image "$1"
