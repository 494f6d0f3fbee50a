# One image, two verbs: train | serve. The last stage is the full image (every framework and
# multi-model-server); `--target slim` has XGBoost only. No BuildKit extensions: the classic builder
# makes the same image. It goes stage by stage, so what only the full image needs comes last.
#
#   python ─┬─ packages-slim ── packages-full    virtual environments
#           ├─ program                           code, byte-compiled
#           └─ runtime ─┬────── slim
#                       └───────────── full

# To pin it for a release: --build-arg BASE_IMAGE=debian@sha256:...
ARG BASE_IMAGE=debian:trixie-slim

# Debian's Python, in every stage.
FROM ${BASE_IMAGE} AS python

# libgomp1: LightGBM's wheel brings no OpenMP runtime of its own, XGBoost's and scikit-learn's do.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 libgomp1 \
    && rm -rf /var/lib/apt/lists/*

# A virtual environment. Its own pip is for training scripts; this stage uses Debian's.
FROM python AS packages-slim

# Wheels only: nothing is compiled and no package's setup code runs.
ENV PIP_ONLY_BINARY=:all: \
    PIP_REQUIRE_HASHES=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore

RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3-pip \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv --without-pip /opt/venv

# "cpu" takes runtime.txt and full.txt, "gpu" takes runtime-gpu.txt and full-gpu.txt.
ARG ACCELERATOR=cpu
WORKDIR /requirements

COPY requirements/runtime.txt requirements/runtime-gpu.txt ./
RUN case "${ACCELERATOR}" in \
        cpu) pip --python /opt/venv install --requirement runtime.txt ;; \
        gpu) pip --python /opt/venv install --requirement runtime-gpu.txt ;; \
        *) echo "ACCELERATOR='${ACCELERATOR}' is not known; accepted: cpu, gpu" >&2; exit 1 ;; \
    esac

COPY requirements/installer.txt ./
RUN pip --python /opt/venv install --requirement installer.txt

# The code: byte-compiled here, because the root file system may be read-only.
FROM python AS program

COPY LICENSE /opt/program/
COPY container /opt/program/container
COPY serve /opt/program/serve
COPY train /opt/program/train

# Readable by any uid, whatever the umask of the checkout. The two commands let a job whose entry
# point was replaced (ContainerEntrypoint) still call the verbs by name.
RUN chmod -R a+rX /opt/program \
    && python3 -m compileall -q /opt/program \
    && for verb in train serve; do \
        printf '#!/bin/sh\nexec python -P -m container %s "$@"\n' "${verb}" >"/usr/local/bin/${verb}" \
        && chmod 755 "/usr/local/bin/${verb}" || exit 1; \
    done

# What both images have in common.
FROM python AS runtime

# HOME: any uid must be able to write caches (Keras, matplotlib, ...), and only /tmp is sure to be
# writable; nothing of the image lives there.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/program \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
WORKDIR /opt/program

LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true \
      com.amazonaws.sagemaker.capabilities.multi-models=true \
      org.opencontainers.image.title="byoa-sagemaker" \
      org.opencontainers.image.licenses="Apache-2.0"

EXPOSE 8080

# SageMaker appends `train` or `serve`. -P: a user's train.py or serve.py in the working directory
# never shadows ours. Not PYTHONSAFEPATH, which a script run by a replaced entry point would inherit
# and then miss the modules beside it. Exec form, no shell and no init program in front: PID 1 is
# our process and gets SIGTERM itself.
# No USER: SageMaker documents that containers run as root, and mounts /opt/ml for root. The image
# also works with any other uid (`docker run --user 12345:0`), as serverless endpoints use.
# No HEALTHCHECK: the platform polls /ping itself, and one image also holds `train`, which has no
# port; a check would start a Python every few seconds beside the model for nobody to read.
ENTRYPOINT ["python", "-P", "-m", "container"]

# XGBoost only.
FROM runtime AS slim

COPY --from=packages-slim /opt/venv /opt/venv
COPY --from=program /usr/local/bin /usr/local/bin
COPY --from=program /opt/program /opt/program

ARG BASE_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.description="SageMaker bring-your-own-algorithm container: XGBoost" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"

# Every framework and multi-model-server.
FROM packages-slim AS packages-full

ARG ACCELERATOR=cpu

COPY requirements/full.txt requirements/full-gpu.txt requirements/mms.txt ./
RUN case "${ACCELERATOR}" in gpu) full="full-gpu.txt" ;; *) full="full.txt" ;; esac \
    && pip --python /opt/venv install --requirement "${full}" --requirement mms.txt

FROM runtime AS full

# A layer of its own: only multi-model-server needs Java, and Java brings most of the CVEs.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openjdk-21-jre-headless \
    && rm -rf /var/lib/apt/lists/*

COPY --from=packages-full /opt/venv /opt/venv
COPY --from=program /usr/local/bin /usr/local/bin
COPY --from=program /opt/program /opt/program

ARG BASE_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.description="SageMaker bring-your-own-algorithm container: XGBoost, Keras, scikit-learn, LightGBM, ONNX, multi-model-server" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"
