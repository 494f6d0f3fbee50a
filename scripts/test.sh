#!/usr/bin/env bash
# Run all tests, the Docker half where an engine answers, and report branch coverage.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/engine.sh

# Percent of branches and lines over container, serve and train: raised as the tests grow.
coverage_floor=95

usage() {
    cat <<'TEXT'
Usage: scripts/test.sh [PYTEST_ARGUMENT...]

Run pytest from .venv, side by side on every CPU. Where a container engine answers, the image is
brought up to date first and the tests marked 'docker' use it; elsewhere they are skipped. With
pytest arguments (say: tests/unit -k csv) the coverage report is left out.

Environment:
  BYOA_IMAGE             the image's name without a tag (default: byoa-sagemaker)
  BYOA_REQUIRE_DOCKER=1  fails instead of skipping the Docker half
TEXT
}

case ${1:-} in
    -h | --help) usage; exit 0 ;;
esac
[ -x .venv/bin/pytest ] || { echo "test: .venv/bin/pytest is missing; run: make venv" >&2; exit 1; }
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

if [ $# -gt 0 ]; then
    exec .venv/bin/pytest --numprocesses auto "$@"
fi
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
