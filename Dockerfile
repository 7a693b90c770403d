# The workflow and all that it needs, with the pins of envs/constraints.txt: docs/install.md.
FROM python:3.11-slim-bookworm

# Where torch is looked for besides, for its build for CPUs. Empty: the build for CUDA.
ARG TORCH_INDEX=

WORKDIR /scangan
COPY pyproject.toml README.md LICENSE ./
COPY envs envs
COPY src src
RUN PIP_EXTRA_INDEX_URL="$TORCH_INDEX" \
    pip install --no-cache-dir --constraint envs/constraints.txt --editable .
COPY Snakefile ./
COPY config config
COPY profiles profiles
COPY workflow workflow

# Whoever runs it may write its results, and what Snakemake notes of a run.
RUN chmod a+rwx . && mkdir --mode 777 results
ENV HOME=/tmp
ENTRYPOINT ["snakemake"]
CMD ["--cores", "8", "--resources", "gpu=1"]
