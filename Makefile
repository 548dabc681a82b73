# Everything a fresh machine needs is python3 (3.11 or later) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO_INSTALLED := $(VENV)/.demo-installed
PACKAGES := cir cir_cli service_runtime embedder_service combiner_service combiner_training garments \
	vector_store search_service indexer web_demo http_gateway
ONCE ?=
# Waiting threads of a model sleep instead of spinning: faster wherever cores are shared.
export OMP_WAIT_POLICY ?= PASSIVE
# Every service, test and command is a process of its own: without bytecode each compiles the project anew.
unexport PYTHONDONTWRITEBYTECODE
UPGRADE ?=
COVERAGE ?=

# Containers: OVERLAYS="embedded tls" adds deploy/docker-compose.embedded.yml and ...tls.yml.
COMPOSE ?= docker-compose
OVERLAYS ?=
CATALOG ?= shop
IN_DEPLOY = cd deploy && $(COMPOSE) $(FILES)
FILES = -f docker-compose.yml $(foreach name,$(OVERLAYS),-f docker-compose.$(name).yml)

.PHONY: demo test check format lint types layers protos clients contract docs manifests settings models-table bench lock dist release clean
.PHONY: images up down index scale rolling smoke logs base-image dev-ca image-sizes test-docker screenshots test-clients

# Without torch: a fresh clone installs what the demo needs alone.
demo: $(DEMO_INSTALLED)
	$(BIN)/cir demo $(if $(filter-out 0,$(ONCE)),--once)

# COVERAGE=1 measures the lines that run in the process of the tests; the floor is the quick tests'.
COVER = $(if $(filter-out 0,$(COVERAGE)),$(addprefix --cov=,$(PACKAGES)) --cov-report=term:skip-covered)

# Every test but those in containers and those of clients in other languages: the quick ones on all cores, then those
# that start processes or measure memory, one at a time.
test: $(INSTALLED)
	$(BIN)/pytest --quick --numprocesses auto $(COVER)
	$(BIN)/pytest --no-quick

# What to run before every commit: the rules, and the tests that need no process, socket, browser, torch or container.
check: $(INSTALLED)
	@start=$$(date +%s); $(MAKE) --no-print-directory lint && $(BIN)/pytest --quick --numprocesses auto $(COVER) \
		&& echo "check: $$(( $$(date +%s) - start )) s"

format: $(INSTALLED)
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

lint: $(INSTALLED) types layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python scripts/generate_protos.py --check
	$(BIN)/python scripts/generate_client.py --check
	$(BIN)/python scripts/generate_settings.py --check
	$(BIN)/python scripts/generate_openapi.py --check
	scripts/check_contract.sh

types: $(INSTALLED)
	$(BIN)/mypy $(PACKAGES) scripts benchmarks tests

# Imports run downwards only, and no service imports another.
layers: $(INSTALLED)
	$(BIN)/lint-imports

protos: $(INSTALLED)
	$(BIN)/python scripts/generate_protos.py
	$(BIN)/python scripts/generate_client.py
	$(BIN)/python scripts/generate_openapi.py

# Generated code of the clients in other languages, needs npm and go, and each client's copy of the service config. The
# Java client generates with each of its builds.
clients:
	scripts/buf generate
	for client in cir clients/go clients/typescript clients/java; do cp clients/service_config.json $$client/; done

# Each client's own tests against a running service, and those of the page's modules.
test-clients: $(INSTALLED)
	$(BIN)/pytest -m clients -v -rs tests/clients tests/web_demo/test_modules.py tests/system/test_tutorial.py

# The rules of buf.yaml; needs npm, and says so where it is absent.
contract:
	scripts/check_contract.sh

# The documents as a site, with references of contract and Python client, in out/docs; mkdocs is no part of the lock.
docs: $(INSTALLED)
	$(BIN)/python -c "import mkdocs" 2>/dev/null || $(BIN)/python -m pip install --quiet "mkdocs==1.6.1"
	$(BIN)/python -m scripts.site

# The manifests of deploy/kubernetes against the schemas of its API; the package that has them is no part of the lock.
manifests: $(INSTALLED)
	$(BIN)/python -c "import kubernetes_validate" 2>/dev/null || $(BIN)/python -m pip install --quiet "kubernetes-validate==1.37.0"
	$(BIN)/pytest -m "clients or not clients" -rs tests/deploy/test_kubernetes.py

settings: $(INSTALLED)
	$(BIN)/python scripts/generate_settings.py

models-table: $(INSTALLED)
	$(BIN)/python scripts/generate_models.py --measure

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

# Each file by its digest; once, and again only when the lock or a project file has changed.
$(INSTALLED): requirements.lock pyproject.toml setup.py cir/pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable ./cir --editable .
	touch $@

# What the demo needs; the same versions as in the whole lock.
$(DEMO_INSTALLED): requirements-demo.lock pyproject.toml setup.py cir/pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-demo.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable ./cir --editable .
	touch $@

# Writes what pyproject.toml asks for to the locks, keeping what is pinned; UPGRADE=--upgrade takes the newest.
lock: $(INSTALLED)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile $(UPGRADE) --quiet --universal --no-header --no-annotate --no-emit-index-url \
		--python-version 3.11 --generate-hashes --extra dev --no-emit-package composed-image-retrieval-client \
		--output-file requirements.lock pyproject.toml
	echo 'setuptools>=77' | $(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --no-emit-index-url \
		--python-version 3.11 --generate-hashes --constraint requirements.lock --extra demo \
		--no-emit-package composed-image-retrieval-client --output-file requirements-demo.lock pyproject.toml -

# Source distributions and wheels of both, the wheels built from the source distributions.
dist: $(INSTALLED)
	rm -rf dist
	for folder in cir .; do $(BIN)/python -m build --no-isolation --outdir dist $$folder || exit 1; done

# Builds what would be uploaded and checks that it can be; uploads nothing.
release: lint dist
	$(BIN)/python scripts/release.py dist

images:
	$(IN_DEPLOY) --profile index build

up:
	$(IN_DEPLOY) up -d

down:
	$(IN_DEPLOY) --profile index down

# make index CATALOG=shop DIR=/srv/pictures; options of cir index in OPTIONS.
index:
	test -n "$(DIR)" || { echo "say which folder: make index CATALOG=shop DIR=/srv/pictures" >&2; exit 1; }
	export CIR_PICTURES="$(abspath $(DIR))" && $(IN_DEPLOY) run --rm indexer index $(CATALOG) /pictures $(OPTIONS)

# make scale EMBEDDER=3 COMBINER=2 SEARCH=2 HTTP=2
scale:
	$(IN_DEPLOY) up -d --no-recreate $(if $(EMBEDDER),--scale embedder=$(EMBEDDER)) \
		$(if $(COMBINER),--scale combiner=$(COMBINER)) $(if $(SEARCH),--scale search=$(SEARCH)) $(if $(HTTP),--scale http=$(HTTP))

# make rolling SERVICE=embedder: every replica replaced by one of the present image.
rolling:
	cd deploy && COMPOSE="$(COMPOSE)" ./rolling.sh $(SERVICE) $(FILES)

# A composed query against the running stack. Its key is CIR_API_KEY, or the first of CIR_SEARCH_API_KEYS.
smoke:
	$(IN_DEPLOY) exec -T $(if $(CIR_API_KEY),-e CIR_API_KEY) search sh -c \
		'first="$${CIR_SEARCH_API_KEYS%%,*}"; export CIR_API_KEY="$${CIR_API_KEY:-$${first#*:*:}}"; exec "$$@"' smoke \
		python3 -m cir_cli search $(CATALOG) --server localhost:50050 --text "a red dress" --then "in blue"

logs:
	$(IN_DEPLOY) logs --tail 100 -f

base-image:
	deploy/base-image.sh

dev-ca:
	deploy/dev-ca.sh deploy/tls

image-sizes:
	docker image ls --format '{{.Repository}}:{{.Tag}}\t{{.Size}}' 'cir-*'

# The pictures of docs/demo.md; needs chromium.
screenshots: $(INSTALLED)
	$(BIN)/python -m scripts.screenshots

test-docker: $(INSTALLED)
	$(BIN)/pytest -m docker -v -rs tests/deploy

clean:
	rm -rf $(VENV) clients/typescript/node_modules clients/typescript/dist clients/java/target tests/web_demo/js/node_modules
	rm -rf build cir/build dist *.egg-info cir/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
