# SGLang with Marconi, from wheels that are built and locked in this repository. docs/deploy.md says how to
# build the other release and how to pin the base images by digest.
ARG CUDA_IMAGE=nvidia/cuda:13.0.2-devel-ubuntu24.04
ARG PYTHON_IMAGE=python:3.12.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS wheels
ARG SGLANG_VERSION=0.5.16
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /checkout
COPY requirements.lock .
RUN pip install --no-cache-dir --require-hashes --requirement requirements.lock
COPY . .
RUN python -m marconi_core.serving build /wheels --sglang ${SGLANG_VERSION}

# nvcc and a C++ compiler stay: kernels are compiled at first use
FROM ${CUDA_IMAGE}
ARG SGLANG_VERSION=0.5.16
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libnuma1 python3.12-dev python3.12-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3.12 -m venv /opt/server
ENV PATH=/opt/server/bin:${PATH} PYTHONUNBUFFERED=1
COPY sglang_patch/v${SGLANG_VERSION}/requirements.lock /opt/server/
RUN pip install --no-cache-dir --no-deps --only-binary :all: \
    --require-hashes --requirement /opt/server/requirements.lock
COPY --from=wheels /wheels /opt/server/wheels
RUN pip install --no-cache-dir --no-deps --no-index --find-links /opt/server/wheels \
    --require-hashes --requirement /opt/server/wheels/requirements.txt

RUN useradd --create-home server && install --directory --owner server /home/server/.cache/huggingface
USER server
WORKDIR /home/server
# models and compiled kernels, all below one folder that a volume can keep
ENV TRITON_CACHE_DIR=/home/server/.cache/triton \
    TORCHINDUCTOR_CACHE_DIR=/home/server/.cache/inductor
EXPOSE 30000
ENTRYPOINT ["python", "-m", "sglang.launch_server"]
CMD ["--help"]
