# prunegrid in a container, with the packages of requirements.lock. It has not been tried: the tests
# run where there is no Docker.
#
#   docker build --tag prunegrid .
#   docker run --rm --volume "$PWD:/work" prunegrid run demo
#
# A GPU: --build-arg TORCH_BACKEND=cu130, and `docker run --gpus all`.
FROM python:3.11-slim-bookworm
ARG TORCH_BACKEND=cpu
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
COPY . /opt/prunegrid
RUN make --directory /opt/prunegrid env TORCH_BACKEND=$TORCH_BACKEND
ENV PATH=/opt/prunegrid/.venv/bin:$PATH
WORKDIR /work
ENTRYPOINT ["prunegrid"]
CMD ["--help"]
