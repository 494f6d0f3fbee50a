#!/usr/bin/env bash
# Send PAYLOAD to the server that serve_local.sh started and print the answer; PORT is 8080 if unset.
set -euo pipefail
usage="usage: $0 PAYLOAD [CONTENT_TYPE]"
case $#:${1:-} in [12]:[!-]*) ;; 1:-h | 1:--help) echo "$usage"; exit ;; *) echo "$usage" >&2; exit 2 ;; esac
# curl would send nothing, and have an empty answer.
[ -r "$1" ] || { echo "$0: cannot read $1" >&2; exit 2; }

curl --silent --show-error --fail-with-body --data-binary "@$1" \
    --header "Content-Type: ${2:-text/csv}" "http://127.0.0.1:${PORT:-8080}/invocations"
