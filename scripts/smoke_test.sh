#!/usr/bin/env bash
# Train on real data, serve the model and predict, all inside one built image.
set -euo pipefail
cd "$(dirname "$0")"

usage() {
    cat <<'TEXT'
Usage: scripts/smoke_test.sh IMAGE

Run `IMAGE train` and `IMAGE serve` as SageMaker would, without any network, and check that the
predictions are right and that SIGTERM ends the server cleanly. The data is Fisher's iris
(smoke_test.csv: versicolor 0, virginica 1). Files travel by `docker cp`, so it also works with a
remote engine and leaves no file of root's behind; the two containers are removed.
TEXT
}

say() { echo "smoke test: $*"; }
die() { echo "smoke test: $*" >&2; exit 1; }

clean_up() {
    docker rm --force "${containers[@]}" >/dev/null 2>&1 || true
    rm -rf "$work_dir"
}

# Usage: fail CONTAINER WHAT
fail() {
    docker logs "$1" 2>&1 | tail -n 20 >&2
    die "$2; the end of the container's log is above"
}

# Usage: create VERB; sets container. --network none as under EnableNetworkIsolation.
create() {
    container=$(docker create --network none "$image" "$1") || die "cannot make a container of '$image'"
    containers+=("$container")
}

train() {
    mkdir -p "$work_dir/ml/input/config" "$work_dir/ml/input/data/train"
    echo '{"num_round": "50", "objective": "binary:logistic"}' \
        >"$work_dir/ml/input/config/hyperparameters.json"
    echo '{"train": {"TrainingInputMode": "File"}}' >"$work_dir/ml/input/config/inputdataconfig.json"
    cp smoke_test.csv "$work_dir/ml/input/data/train/"

    create train
    docker cp "$work_dir/ml" "$container:/opt/"
    timeout 300 docker start --attach "$container" >/dev/null 2>&1 ||
        fail "$container" "train failed or took more than 300 s"
    docker cp "$container:/opt/ml/model" "$work_dir/model" 2>/dev/null ||
        fail "$container" "train left no /opt/ml/model"
    say "train: $(cd "$work_dir/model" && find . -type f -printf '%P ')"
}

serve() {
    mkdir -p "$work_dir/serving/ml"
    mv "$work_dir/model" "$work_dir/serving/ml/"
    create serve
    docker cp "$work_dir/serving/ml" "$container:/opt/"
    docker start "$container" >/dev/null || fail "$container" "serve does not start"
    local answer status
    answer=$(docker exec --interactive "$container" \
        python -c "$(cat smoke_client.py)" <smoke_test.csv 2>&1) ||
        fail "$container" "serve does not predict as it should: $answer"
    say "serve: $answer"

    docker stop --time 30 "$container" >/dev/null
    status=$(docker inspect --format '{{.State.ExitCode}}' "$container")
    [ "$status" -eq 0 ] || fail "$container" "serve ended with status $status on SIGTERM, not 0"
}

case ${1:-} in
    -h | --help) usage; exit 0 ;;
    "" | -*) usage >&2; die "one argument is needed, the image; given: '$*'" ;;
esac
image=$1
containers=()
work_dir=$(mktemp -d)
trap clean_up EXIT
trap 'exit 130' INT TERM

train
serve
say "passed: $image"
