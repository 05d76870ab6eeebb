# Every target sets up .venv by itself. PYTHON chooses the interpreter, VENV the folder.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
GPU_READY := $(VENV)/.ready-gpu
OUT ?= quickstart
DEVICE ?= pretended
# Processes of the test suite, one thread each.
PROCESSES ?= 2

.PHONY: quickstart test test-device test-gpu-kernels gpu-dev lint format clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: $(READY)  ## train on the embedded molecules, draw 1,000, judge them
	rm -rf $(OUT)
	$(BIN)/graphinv data build smallmol -o $(OUT)/smallmol.graphs
	$(BIN)/graphinv train pard --data $(OUT)/smallmol.graphs --preset smallmol -o $(OUT)/run
	$(BIN)/graphinv sample $(OUT)/run -n 1000 -o $(OUT)/out.smi --grid $(OUT)/grid.png
	$(BIN)/graphinv evaluate $(OUT)/out.smi --reference $(OUT)/smallmol.graphs --json $(OUT)/report.json --report $(OUT)/report.html
	@echo "molecules: $(OUT)/out.smi   picture: $(OUT)/grid.png   report: $(OUT)/report.html"

test: $(READY)  ## the whole suite; GRAPHINV_DATA_DIR adds the tests on real files
	$(BIN)/python -m pytest -q -n $(PROCESSES) --dist worksteal

test-device: $(READY)  ## nothing mixes devices, nothing waits: on a pretended device, or DEVICE=cuda
	GRAPHINV_TEST_DEVICE=$(DEVICE) $(BIN)/python -m pytest -q tests/device

$(GPU_READY): $(READY) pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[gpu-dev]'
	touch $@

gpu-dev: $(GPU_READY)

test-gpu-kernels: gpu-dev  ## the tests of the Triton kernels, interpreted on the CPU: minutes
	TRITON_INTERPRET=1 $(BIN)/python -m pytest -q -n $(PROCESSES) --dist worksteal -m "triton or backends" tests/ops tests/aggr/test_triton_gru.py

lint: $(READY)  ## what CI checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(OUT) .pytest_cache .mypy_cache .ruff_cache
