#!/usr/bin/env bash
# Check everything that is checked without running the code; changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'TEXT'
Usage: scripts/lint.sh

Run ruff (lint and format), mypy, shellcheck and hadolint from .venv over the files that git knows
or would add; compare the generated pages of docs/ with their sources; check citations and wording
of docstrings, comments and pages. Prints the findings of each, and fails if there are any.
TEXT
}

case ${1:-} in
    "") ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; echo "lint: unknown argument '$1'; accepted: --help" >&2; exit 1 ;;
esac
[ -x .venv/bin/ruff ] || { echo "lint: .venv/bin/ruff is missing; run: make venv" >&2; exit 1; }

# By content, not by name: .ci/run is a shell script too.
shell_scripts() {
    local file
    git ls-files --cached --others --exclude-standard | while read -r file; do
        if [ -f "$file" ] && head -n 1 "$file" | grep -qE '^#!.*\b(ba)?sh\b|^# shellcheck shell='; then
            echo "$file"
        fi
    done
}

failed=()
# Usage: check NAME COMMAND...
check() {
    local name=$1
    shift
    echo "lint: $name"
    "$@" || failed+=("$name")
}

mapfile -t scripts < <(shell_scripts)
check "ruff check" .venv/bin/ruff check --quiet .
check "ruff format" .venv/bin/ruff format --quiet --diff .
check "mypy" .venv/bin/mypy --no-error-summary
check "shellcheck" .venv/bin/shellcheck --external-sources "${scripts[@]}"
check "hadolint" .venv/bin/hadolint Dockerfile
check "contract table" .venv/bin/python -m scripts.contract_table --check
check "settings table" .venv/bin/python -m scripts.settings_table --check
check "words" .venv/bin/python -m scripts.check_words

if [ ${#failed[@]} -gt 0 ]; then
    echo "lint: failed: $(printf '%s; ' "${failed[@]}")see above" >&2
    exit 1
fi
echo "lint: clean"
