# prunegrid. `make help` lists what there is.
PYTHON ?= python3
VENV ?= .venv
# Jobs side by side, and the memory in MB that they may use together: empty is all that this process
# may use of the machine.
CORES ?=
MEMORY ?=
# The build of torch: cpu (200 MB), or a CUDA version such as cu130. Empty takes what pip's own index
# has: on Linux a CUDA build of several GB. uv knows where each build is; TORCH_INDEX names a mirror.
TORCH_BACKEND ?=
TORCH_INDEX ?=
STUDY ?= demo
# What status, plan and gc lay over config.yaml: OVER="--configfile mine.yaml --config device=cuda".
OVER ?=

TORCH := $(shell sed -n 's/.*- \(torch==[^ ]*\).*/\1/p' envs/models.yaml)
BIN := $(VENV)/bin
JOBS = $(or $(CORES),$(shell $(BIN)/python -m prunegrid.common.machine))
# The Python of gpu-check: any with a CUDA build of torch.
PY ?= $(BIN)/python
STAMP := $(VENV)/.installed
FORMATS := .venv-formats
UV := $(shell command -v uv 2>/dev/null)
ifdef UV
# Compiled now, or the first job of each kind would: 10 CPU seconds where it imports peft.
INSTALL = $(UV) pip install --quiet --compile-bytecode --python $(BIN)/python
else
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

.PHONY: help env demo docs test test-page test-faults test-cluster test-formats test-matrix audit bench gpu-check matrix lint status plan gc format kernels lock clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

env: $(STAMP) ## set up the pinned environment in .venv

$(STAMP): requirements.lock pyproject.toml envs/models.yaml
	@command -v $(PYTHON) >/dev/null || { echo "prunegrid needs Python 3.11 or newer; '$(PYTHON)' was not found. Install it, or name it: make env PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "prunegrid needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) -V 2>&1`. Name another: make env PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Setting up $(VENV) (pinned packages; some minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --require-hashes --no-deps -r requirements.lock
ifdef TORCH_BACKEND
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --torch-backend=$(TORCH_BACKEND) $(TORCH) || { echo "torch's builds for TORCH_BACKEND=$(TORCH_BACKEND) cannot be had from here (why: above). make env alone takes the build of pip's own index; TORCH_INDEX= names a mirror."; exit 1; }
else
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
endif
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: env ## prune, tune and score a real small model; prints the table (7 to 20 minutes, no GPU, no hub)
	@$(BIN)/prunegrid run demo $(if $(CORES),--cores $(CORES)) $(if $(MEMORY),--memory $(MEMORY))

test: env ## the tests, offline (all but those of the test- targets below)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=15 -m "not page and not faults and not cluster and not formats and not matrix" tests

test-page: env ## the page of a study in a real browser, offline (Debian's chromium and chromium-driver)
	$(INSTALL) --require-hashes --no-deps -r envs/page.lock
	$(BIN)/python -m pytest -m page tests/tables/page

test-faults: env ## runs that are killed, starved and damaged: nothing wrong, nothing lost (as root)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m faults $(FAULTS) tests/faults

test-formats: env $(FORMATS)/.installed ## exported formats by their own validators, offline (a small environment of theirs)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m formats tests

# Of the validators one asks for a newer Python than it needs, and two for different releases of rich.
$(FORMATS)/.installed: envs/formats.lock
	@test -x $(FORMATS)/bin/python || $(BIN)/python -m venv $(FORMATS)
	$(FORMATS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --ignore-requires-python -r envs/formats.lock
	@touch $@

audit: ## known vulnerabilities of the pinned packages (needs pip-audit and a network)
	pip-audit --require-hashes --disable-pip -r requirements.lock -r envs/docs.lock

test-cluster: env ## the tiny study on a Slurm of one node (as root; tests/cluster/slurm.sh install)
	$(BIN)/python -m pytest -m cluster tests/cluster

bench: env ## speed of pruning against llm-compressor (installs it: 2 GB, a package index)
	$(BIN)/python benchmarks/pruning/run.py

gpu-check: ## check pruning and tuning on one NVIDIA GPU, in 8 minutes at most (PY=python3)
	@command -v $(PY) >/dev/null || { echo "'$(PY)' was not found. Run make env with a CUDA build of torch, or name a Python that has one: make gpu-check PY=python3"; exit 2; }
	$(PY) benchmarks/gpu/check.py

matrix: env ## try every step on every small config, and write its page again (half an hour on two cores)
	$(BIN)/python -m tests.matrix --jobs $(JOBS) --write

test-matrix: env ## a tenth of the matrix, which the commit chooses: every step as its page says
	$(BIN)/python -m pytest -m matrix tests/matrix

DOCS ?= $(VENV)/docs

docs: $(DOCS) ## write the reference from the code, and build the pages as a site in docs/_build/html, offline
	$(BIN)/python docs/generate.py
	$(BIN)/python -m pytest -q tests/project/test_docs.py
	PYTHONPATH=$(DOCS) $(BIN)/python -m sphinx -b html -W --keep-going -E -a -q -c docs . docs/_build/html
	@$(BIN)/python docs/try_search.py
	@echo "docs/_build/html/index.html"

# A folder of its own: what only the site needs is in no requirement of a study.
$(DOCS): envs/docs.lock | $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --upgrade --target $(DOCS) -r envs/docs.lock
	@touch $(DOCS)

lint: env ## ruff, snakefmt, snakemake --lint, the plan of the library
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/Snakefile workflow/rules
	$(BIN)/snakemake --lint
	$(BIN)/python -m pytest -q tests/project/test_rooms.py

format: env ## format all code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow/Snakefile workflow/rules

status: env ## done, running, failed and missing cells of STUDY=demo
	@$(BIN)/prunegrid status $(STUDY) $(OVER)

plan: env ## jobs, hours, memory and disk of STUDY=demo, before anything runs
	@$(BIN)/prunegrid plan $(STUDY) $(OVER)

gc: env ## what no study of the config needs any more; DELETE=1 removes it
	@$(BIN)/prunegrid gc $(OVER) $(if $(DELETE),--delete)

kernels: env ## build the kernels for packed weights now (a C++ compiler; load_packed does it else)
	@$(BIN)/python -m prunegrid.models.packed.kernel_build

lock: env ## write requirements.lock again from what is installed in .venv (needs uv)
	$(BIN)/python -m pip freeze --exclude-editable --all | grep -v -i -E '^(torch|pip|nvidia-.*|triton|cuda-.*)[ =@]' > requirements.frozen
	uv pip compile --no-deps --generate-hashes --no-header --no-annotate --python-version 3.11 --output-file requirements.lock requirements.frozen
	rm requirements.frozen

clean: ## remove every result and artifact, and the built site
	rm -rf results/* .snakemake docs/_build
