#!/usr/bin/env bash
# Serve with IMAGE what train_local.sh left in test_dir/model, on port 8080 until Ctrl-C.
set -euo pipefail
usage="usage: $0 IMAGE"
case $#:${1:-} in 1:[!-]*) ;; 1:-h | 1:--help) echo "$usage"; exit ;; *) echo "$usage" >&2; exit 2 ;; esac

here=$(cd "$(dirname "$0")" && pwd)
python=$here/../.venv/bin/python
[ -x "$python" ] || python=python3
export PYTHONPATH=$here/.. PYTHONSAFEPATH=1
exec "$python" -m local_test serve "$here/test_dir" --image "$1"
