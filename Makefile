# Thin aliases; each line also stands in the README.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run setup test hostile faults lint bench statistics docs site

# With ARGS any call of Snakemake, without activating .venv: make run ARGS='my_study --configfile mine.yaml'
run: .venv/installed
	@$(BIN)/snakemake --resources gpu=1 --cores 8 $(ARGS)

setup: .venv/installed

test: .venv/installed
	$(BIN)/pytest -n 2

# Files that are damaged, lie, or do harm: docs/robustness.md.
hostile: .venv/installed
	$(BIN)/python -m tests.hostile.run --write-docs

# Faults in a small study, each of which has to end in the same tables: half an hour. One: `--only NAME`.
faults: .venv/installed
	$(BIN)/python -m tests.faults.run

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

bench: .venv/installed
	$(BIN)/python benchmarks/run.py

# Simulated studies of known truth: the table of docs/statistics.md.
statistics: .venv/installed
	$(BIN)/python benchmarks/comparison.py

# Written from the code: the schema, the list of keys, the digests of the shipped scales.
docs: .venv/installed
	$(BIN)/python -m scangan.config.derived

# The pages of docs/ and the docstrings as a site, in site/; it asks no network for anything but the packages of `docs`.
site: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint envs/constraints.txt --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

.venv/installed: pyproject.toml envs/constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --constraint envs/constraints.txt --editable ".[dev]"
	@# On all cores, where pip would use one; a few packages carry templates that are no Python, hence `true`.
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib src || true
	@touch $@
