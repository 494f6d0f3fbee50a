# shellcheck shell=bash
# The container engine, for the other scripts to source: does one answer, start one, build with it.
# Usage: . scripts/engine.sh

# True when an engine answers. Bounded: a client whose engine hangs would wait for ever.
engine_answers() {
    command -v docker >/dev/null && timeout 20 docker info >/dev/null 2>&1
}

# Start dockerd in the background and wait for it; sets engine_pid. For machines without an init
# system that does it. Usage: engine_start LOG_FILE
engine_start() {
    local log=$1
    # Does nothing where cgroups are mounted already.
    if command -v cgroupfs-mount >/dev/null; then cgroupfs-mount || true; fi
    # A session of its own: Ctrl-C in the terminal ends the caller, which then ends dockerd.
    setsid dockerd >"$log" 2>&1 &
    engine_pid=$!
    for _ in $(seq 60); do
        if engine_answers; then return 0; fi
        kill -0 "$engine_pid" 2>/dev/null || break
        sleep 1
    done
    echo "engine: dockerd did not answer within 60 s; the end of $log:" >&2
    tail -n 20 "$log" >&2
    return 1
}

# Stop the dockerd that engine_start started, and no other.
engine_stop() {
    [ -n "${engine_pid:-}" ] || return 0
    kill "$engine_pid" 2>/dev/null || true
    wait "$engine_pid" 2>/dev/null || true
    engine_pid=""
}

# `docker build` with the flags that make one plain image of it on every builder: the classic one
# knows no --provenance, and buildx adds an attestation index by default, which SageMaker refuses.
# Sets the array build_command; run it in the top folder. Usage: engine_build_command ARGUMENT...
engine_build_command() {
    local name
    build_command=(docker build --force-rm)
    if docker buildx version >/dev/null 2>&1; then
        # --output type=docker: into the engine's own store, also from a builder that is a
        # container, and with Docker's media types rather than OCI's.
        build_command=(docker buildx build --provenance=false --sbom=false --output "type=docker")
    fi
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        if [ -n "${!name:-}" ]; then build_command+=(--build-arg "$name"); fi
    done
    build_command+=(
        --build-arg "VERSION=$(product_version)"
        --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)"
        "$@" .
    )
}

product_version() {
    sed -n 's/^__version__ = "\(.*\)"$/\1/p' container/__init__.py
}
