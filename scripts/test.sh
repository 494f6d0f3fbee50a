#!/usr/bin/env bash
# Run the quick tests, or all of them with branch coverage.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/engine.sh

# Percent of branches and lines over container, serve and train: raised as the tests grow. Processes
# of models with code, and the fork server, end without a report: what runs there counts as missed.
coverage_floor=93

usage() {
    cat <<'TEXT'
Usage: scripts/test.sh [--all | PYTEST_ARGUMENT...]

Run pytest from .venv, side by side on every CPU.

  (no argument)     the quick tests: tests/unit, tests/corpus, tests/architecture, and the black-box
                    tests marked 'canary', as processes; no container engine is used
  --all             all tests, tests/integration included, with branch coverage; where a container
                    engine answers, the image is brought up to date first and the tests marked
                    'docker' use it
  PYTEST_ARGUMENT   only these tests, say: tests/unit -k csv

Environment, for --all and PYTEST_ARGUMENT:
  BYOA_IMAGE             the image's name without a tag (default: byoa-sagemaker)
  BYOA_REQUIRE_DOCKER=1  fails instead of skipping the Docker half
TEXT
}

bring_up_image() {
    # $BYOA_IMAGE runs the full image, $BYOA_IMAGE:slim the slim one.
    export BYOA_IMAGE=${BYOA_IMAGE:-byoa-sagemaker}
    if engine_answers; then
        scripts/image.sh "$BYOA_IMAGE"
    elif [ "${BYOA_REQUIRE_DOCKER:-}" = 1 ]; then
        echo "test: BYOA_REQUIRE_DOCKER=1 and no container engine answers ('docker info' fails);" \
            "start dockerd, or set DOCKER_HOST" >&2
        exit 1
    else
        echo "test: NO CONTAINER ENGINE ANSWERS: THE DOCKER HALF OF THE TESTS IS SKIPPED" >&2
    fi
}

case ${1:-} in
    -h | --help) usage; exit 0 ;;
esac
[ -x .venv/bin/pytest ] || { echo "test: .venv/bin/pytest is missing; run: make venv" >&2; exit 1; }

if [ $# -eq 0 ]; then
    exec .venv/bin/pytest --numprocesses auto -m '(quick or canary) and not docker'
fi
bring_up_image
[ "$1" = --all ] || exec .venv/bin/pytest --numprocesses auto "$@"

# Every Python below starts measuring by itself: pytest's workers, and the verbs that tests start,
# some of them as another user.
measured=$(mktemp -d)
trap 'rm -rf "$measured"' EXIT
chmod 1777 "$measured"
COVERAGE_PROCESS_START=$PWD/pyproject.toml COVERAGE_FILE=$measured/.coverage \
    .venv/bin/pytest --numprocesses auto
.venv/bin/coverage combine --quiet "$measured"
# Some tests run copies of the program that are gone by now.
.venv/bin/coverage report --ignore-errors --fail-under "$coverage_floor"
