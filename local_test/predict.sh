#!/usr/bin/env bash
# Send PAYLOAD to the server that serve_local.sh started and print the answer; PORT is 8080 if unset.
set -euo pipefail
case $#:${1:-} in [12]:[!-]*) ;; *) echo "usage: $0 PAYLOAD [CONTENT_TYPE]" >&2; exit 2 ;; esac

curl --silent --show-error --fail-with-body --data-binary "@$1" \
    --header "Content-Type: ${2:-text/csv}" "http://127.0.0.1:${PORT:-8080}/invocations"
