# docker build -t sspo . && docker run --name sspo sspo && docker cp sspo:/home/sspo/sspo/figures .
# On Linux, PyTorch's wheels from PyPI bring CUDA; for a CPU build:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=<PyTorch's index of CPU builds> -t sspo .
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home sspo
USER sspo
WORKDIR /home/sspo/sspo
COPY --chown=sspo . .
ARG PIP_EXTRA_INDEX_URL
RUN make environment PIP_ARGS=--no-cache-dir
CMD ["make", "reproduce"]
