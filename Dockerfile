# The worker image. Base: the newest patch release of Python 3.12 on Debian's current stable.
# renovate: datasource=docker depName=python
ARG PYTHON_IMAGE=python:3.12.14-slim-trixie

# cpu, or gpu: with the MediaPipe that has a GPU delegate (docs/decisions/0033).
ARG VARIANT=cpu

FROM ${PYTHON_IMAGE} AS builder
ARG VARIANT
WORKDIR /build
RUN python3 -m venv --without-pip /opt/venv && python3 -m venv /opt/pip
# Dependencies change seldom, code often: each has its layer. The secret is for a machine behind its own authority.
COPY requirements/runtime.txt requirements/gpu.txt ./
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=ca \
    PIP_CERT=$(find /run/secrets -name ca 2>/dev/null) /opt/pip/bin/pip --python /opt/venv/bin/python install \
      --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes --only-binary=:all: -r runtime.txt \
 && if [ "$VARIANT" = gpu ]; then \
      PIP_CERT=$(find /run/secrets -name ca 2>/dev/null) /opt/pip/bin/pip --python /opt/venv/bin/python install \
        --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes --only-binary=:all: -r gpu.txt; fi \
 && find /opt/venv -type d \( -name tests -o -name test -o -name __pycache__ \) -prune -exec rm -rf {} + \
 && python3 -m compileall -q -j0 /opt/venv

FROM ${PYTHON_IMAGE}
ARG VARIANT
# System libraries beside the base image's: none, but for MediaPipe's EGL and OpenGL ES in the variant gpu, whose driver
# the NVIDIA runtime brings. OpenCV, which would need libGL and glib, is not installed.
RUN if [ "$VARIANT" = gpu ]; then \
      apt-get update -q && apt-get install -q -y --no-install-recommends libegl1 libgles2 && rm -rf /var/lib/apt/lists/*; fi
ENV NVIDIA_DRIVER_CAPABILITIES=graphics,utility
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin worker
COPY --from=builder /opt/venv /opt/venv
COPY worker /opt/wearon/worker
ARG VERSION=unknown
ARG REVISION=unknown
# Nothing here multiplies large matrices: threads for that would only take memory, more of it the more cores there are.
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/wearon PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OPENBLAS_NUM_THREADS=1
RUN python3 -m compileall -q /opt/wearon/worker \
 && printf '#!/bin/sh\nexec python3 -m worker "$@"\n' >/usr/local/bin/wearon-worker && chmod +x /usr/local/bin/wearon-worker
# For wearon_build_info.
ENV WEARON_VERSION=${VERSION} WEARON_COMMIT=${REVISION}
LABEL org.opencontainers.image.title="wearon-worker" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      wearon.release="${VERSION}"
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
ENTRYPOINT ["python3", "-m", "worker"]
CMD ["run"]
