# Everything a fresh machine needs is python3 (3.11 or later) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PACKAGES := cir service_runtime embedder_service combiner_service vector_store search_service indexer
ONCE ?=
# Waiting threads of a model sleep instead of spinning: faster wherever cores are shared.
export OMP_WAIT_POLICY ?= PASSIVE
UPGRADE ?=

.PHONY: demo test lint protos settings bench lock clean

demo: $(INSTALLED)
	$(BIN)/cir demo $(if $(filter-out 0,$(ONCE)),--once)

test: $(INSTALLED)
	$(BIN)/pytest

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(PACKAGES) scripts benchmarks
	$(BIN)/python scripts/generate_protos.py --check
	$(BIN)/python scripts/generate_settings.py --check

protos: $(INSTALLED)
	$(BIN)/python scripts/generate_protos.py

settings: $(INSTALLED)
	$(BIN)/python scripts/generate_settings.py

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

# Installs once; again only when the lock or the project file has changed.
$(INSTALLED): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Writes what pyproject.toml asks for to the lock, keeping what is pinned; UPGRADE=--upgrade takes the newest.
lock: $(INSTALLED)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile $(UPGRADE) --quiet --universal --no-header --no-annotate --no-emit-index-url \
		--python-version 3.11 --extra dev --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
