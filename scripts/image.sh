#!/usr/bin/env bash
# Build the two images, and a base image first where none can be pulled.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/engine.sh

usage() {
    cat <<'TEXT'
Usage: scripts/image.sh [IMAGE]

Build IMAGE:slim (XGBoost) and IMAGE:full, also tagged IMAGE:latest (every framework and
multi-model-server). IMAGE defaults to byoa-sagemaker.

Environment:
  BASE_IMAGE     what to start from (default: the Dockerfile's own). When it is the default, is not
                 here and cannot be pulled within a minute, local_test/base_image.sh makes it (root).
  ACCELERATOR    cpu (default) or gpu: which locked requirements go in
  BUILD_NETWORK  the network of the build steps (default: host, which needs no bridge)
  http_proxy, https_proxy, no_proxy   handed to the build when set
TEXT
}

say() { echo "image: $*"; }
die() { echo "image: $*" >&2; exit 1; }

ensure_base() {
    if docker image inspect "$base" >/dev/null 2>&1; then return; fi
    say "pulling $base ..."
    if timeout 60 docker pull --quiet "$base" >/dev/null 2>"$log"; then return; fi
    say "cannot pull it ($(tail -n 1 "$log"))"
    [ "$base" = "$default_base" ] ||
        die "BASE_IMAGE='$base' is not here and cannot be pulled; name an image that can, or unset it"
    local_test/base_image.sh "$base"
}

# Usage: build TARGET TAG...
build() {
    local target=$1 started=$SECONDS tag tags=()
    shift
    for tag in "$@"; do tags+=(--tag "$image:$tag"); done
    say "building $image:$target (minutes at first, then seconds) ..."
    engine_build_command --network "${BUILD_NETWORK:-host}" --target "$target" "${tags[@]}" \
        --build-arg "BASE_IMAGE=$base" --build-arg "ACCELERATOR=${ACCELERATOR:-cpu}"
    "${build_command[@]}" >"$log" 2>&1 || {
        tail -n 40 "$log" >&2
        die "building $image:$target failed; the end of the build's log is above"
    }
    say "$image:$target is ready:" \
        "$(($(docker image inspect --format '{{.Size}}' "$image:$target") / 1000000)) MB," \
        "$((SECONDS - started)) s"
}

case ${1:-} in
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; die "unknown option '$1'; accepted: --help" ;;
esac
[ $# -le 1 ] || { usage >&2; die "one name is enough, $# were given"; }
image=${1-byoa-sagemaker}
[ -n "$image" ] || die "the name of the image is empty; leave it out for byoa-sagemaker"
engine_answers || die "no Docker engine answers ('docker info' fails); start dockerd, or set DOCKER_HOST"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
default_base=$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile | head -n 1)
base=${BASE_IMAGE:-$default_base}

ensure_base
build slim slim
build full full latest
