#!/usr/bin/env bash
# The whole way once, on real data: lay out /opt/ml, train, serve, predict.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/engine.sh

usage() {
    cat <<'TEXT'
Usage: scripts/demo.sh [ENGINE] [IMAGE]

Train XGBoost on the breast cancer data set, serve the model, send one row with curl and stop the
server. A few seconds; everything is left in build/demo to look at.

  ENGINE  process (default): plain processes, no Docker; docker: in the image
  IMAGE   for docker: the name that `make image` built (default: byoa-sagemaker)
TEXT
}

step() { printf '\n== %s\n' "$*"; }
die() { printf '\ndemo: %s\n' "$*" >&2; exit 1; }

# Print the first of the tags that exists: the demo needs no more than the slim image.
find_image() {
    local candidate
    for candidate in "$1:slim" "$1:full" "$1"; do
        if docker image inspect "$candidate" >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

stop_server() {
    [ -n "$server_pid" ] || return 0
    kill -TERM "$server_pid" 2>/dev/null || true
    local pid=$server_pid
    server_pid=""
    wait "$pid"
}

# Sets url once the server answers /ping with 200.
wait_for_server() {
    for _ in $(seq 600); do
        url=$(sed -n 's/^ready on \([^;]*\);.*/\1/p' "$dir/serve.log")
        [ -z "$url" ] || return 0
        kill -0 "$server_pid" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 20 "$dir/serve.log" >&2
    die "the server did not get ready; the end of $dir/serve.log is above"
}

case ${1:-} in
    -h | --help) usage; exit 0 ;;
esac
engine=${1:-process}
image=${2:-byoa-sagemaker}
python=.venv/bin/python
[ -x "$python" ] || die "$python is missing; run: make venv"
case $engine in
    process) how=(--process) ;;
    docker)
        engine_answers || die "no container engine answers ('docker info' fails); try: make demo"
        tagged=$(find_image "$image") || die "there is no image $image; run: make image"
        how=(--image "$tagged")
        ;;
    *) usage >&2; die "unknown engine '$engine'; accepted: process, docker" ;;
esac

dir=build/demo
ml=$dir/opt/ml
server_pid=""
trap 'stop_server || true' EXIT
rm -rf "$dir"
mkdir -p "$ml"

step "1. Lay out $ml as SageMaker lays out /opt/ml"
"$python" -m local_test prepare "$ml" || die "the data could not be laid out; see above"

step "2. Train: python -m local_test train $ml ${how[*]}"
"$python" -m local_test train "$ml" "${how[@]}" | tee "$dir/train.log" ||
    die "training failed; the reason is above"
best=$(sed -n 's/.*validation-logloss:\([0-9.]*\).*/\1/p' "$dir/train.log" | LC_ALL=C sort -g | head -n 1)
[ -n "$best" ] || die "training printed no validation-logloss"
echo "best logloss on the validation rows: $best"

step "3. Serve: python -m local_test serve $ml ${how[*]} --port 0"
: >"$dir/serve.log" # it is read before the server may have made it
"$python" -m local_test serve "$ml" "${how[@]}" --port 0 >>"$dir/serve.log" 2>&1 &
server_pid=$!
wait_for_server
echo "ready on $url; its log is $dir/serve.log"

step "4. Predict one row: the probability that the tumour is benign"
sed -n 3p "$ml/payload.csv" >"$dir/row.csv"
predict="curl -sS --fail-with-body --data-binary @$dir/row.csv -H 'Content-Type: text/csv' $url/invocations"
echo "\$ $predict"
bash -c "$predict" || die "the prediction failed; the answer is above"
echo "(in truth: $(sed -n '3s/,.*//p' "$ml/input/data/validation/validation.csv"); 1 is benign)"

step "5. Stop the server with SIGTERM"
stop_server || die "the server did not end cleanly; see $dir/serve.log"
tail -n 1 "$dir/serve.log"

cat <<TEXT

The model is in $ml/model: $(cd "$ml/model" && echo *)
What next:
  change $ml/input/config/hyperparameters.json or put your own CSV (label first, no
  header) into $ml/input/data/train, and again:
    .venv/bin/python -m local_test train $ml ${how[*]}
    .venv/bin/python -m local_test serve $ml ${how[*]}
    local_test/predict.sh local_test/payload.csv
TEXT
if [ "$engine" = process ]; then
    echo "  the same in the image, as on SageMaker: make image && make demo ENGINE=docker"
fi
