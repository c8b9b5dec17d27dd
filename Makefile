# Every target works alone on a fresh clone: `setup` is made when it is missing or out of date.
PYTHON ?= python3
SCRIPTS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := .venv/$(SCRIPTS)

.PHONY: setup docs quickstart test test-oldest test-newest test-gpu test-asan gpu-report lint format bench release-check ALWAYS

# One environment for each set of releases: those that were tested last, the oldest supported, the newest there are.
setup: .venv/.installed
.venv/.installed: constraints.txt
.venv-oldest/.installed: constraints-oldest.txt
.venv-newest/.installed: ALWAYS
.venv-newest/.installed: PIP_OPTIONS := --upgrade --upgrade-strategy eager

PIP_INSTALL = $*/$(SCRIPTS)/python -m pip install --quiet --disable-pip-version-check $(addprefix --constraint ,$(filter constraints%,$^))

# torch first and alone: with it installed, no other package pulls a different (larger) build.
%/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unisegment needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $*
	$(PIP_INSTALL) $(PIP_OPTIONS) torch
	$(PIP_INSTALL) $(PIP_OPTIONS) --editable '.[dev]'
	$*/$(SCRIPTS)/unisegment info  # which builds the kernel, where it can be built
	touch $@

# The flags are accelerate's own defaults for one CPU process, said aloud so that it does not warn about them. Threads:
# the script takes all cores by itself.
quickstart: setup
	$(BIN)/accelerate launch --cpu --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
		--num_cpu_threads_per_process 1 recipes/train.py recipes/quickstart.yaml

# Files of tests share the cores; each worker has one thread.
PYTEST := pytest -n logical --maxprocesses 8 --dist loadfile

test: setup
	$(BIN)/$(PYTEST)

test-oldest: .venv-oldest/.installed
	.venv-oldest/$(SCRIPTS)/$(PYTEST)

test-newest: .venv-newest/.installed
	.venv-newest/$(SCRIPTS)/pip list
	.venv-newest/$(SCRIPTS)/$(PYTEST)

# What needs an NVIDIA GPU, and the CUDA sources on the CPU.
test-gpu: setup
	$(BIN)/pytest tests/gpu tests/kernels

# All that there is to know of a GPU, in eight minutes; without a GPU the same on the CPU, in small.
gpu-report: setup
	$(BIN)/python benchmarks/gpu_report --output build/gpu_report

# The kernel, and its CUDA code in the emulator, with every access to memory checked. The checker must be there before
# Python is. The library is one of its own, in a cache of its own. Memory that is never given back is not looked for.
ASAN = CXX='g++ -fsanitize=address -fno-omit-frame-pointer -g' XDG_CACHE_HOME=$(CURDIR)/build/asan \
	ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)"

test-asan: setup
	$(ASAN) $(BIN)/python -c 'from unisegment.ops.kernel_backend import resolve_backend; resolve_backend("native")'
	$(ASAN) $(BIN)/pytest --capture=sys tests/kernels/test_borders.py tests/kernels/test_emulator.py tests/kernels/test_cuda_operators.py \
		tests/ops/test_ms_deform_attn_native.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The pages of docs/, into build/site. A link that leads nowhere, and a name that the reference lacks, end it with an error.
docs: setup
	$(BIN)/zensical build --strict

# Run it with nothing else on the machine; the figures go to benchmarks/results.
bench: setup
	$(BIN)/python benchmarks/post_processing.py
	$(BIN)/python benchmarks/data_loading.py
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/kernels/ms_deform_attn.py
	$(BIN)/python benchmarks/kernel_in_training.py

# The packages that users get, in dist: built of what git knows, compared, and each of them installed and used where
# nothing else is. Takes some minutes and 3 GB.
release-check:
	$(PYTHON) tests/repository/release_check.py dist

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
