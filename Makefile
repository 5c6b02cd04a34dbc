# Needs Python (3.11, 3.12 or 3.13) and make, nothing else. `make` alone lists the targets.

LATEST  := 3.3
TWO     := 2.11
HOME_IN := $(CURDIR)/.airflow
VENV    := .venv/airflow-$(LATEST)
VENV2   := .venv/airflow-$(TWO)

# Which Python to build with; if empty, the newest one that fits is used.
PYTHON ?=
# Options for pytest, as in: make test ARGS="-k gate -x"
ARGS ?=
# How many tests run in parallel; WORKERS= runs them one after the other.
WORKERS ?= -n 4 --dist worksteal
# ORDER=random shuffles the test files, and the tests in each, and prints its seed; SEED=<number> repeats that order.
ORDER ?=
SEED ?=
# For the demo: succeeded, failed or cancelled; or a recorded log to replay.
SCENARIO ?=
LOG ?=

# The user's own Airflow and Python settings must not leak into ours.
$(foreach name,$(filter AIRFLOW_%,$(.VARIABLES)),$(eval unexport $(name)))
unexport PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX VIRTUAL_ENV
export AIRFLOW_HOME := $(HOME_IN)

.DEFAULT_GOAL := help
.PHONY: help demo up test test-airflow2 test-system lint bench constraints clean venv venv2

help: ## list the targets
	@echo "Targets:"
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1 \2/p' Makefile | while read -r name text; do \
	  printf '  make %-14s %s\n' "$$name" "$$text"; done
	@echo "Environments are built in .venv/ on first use, about two minutes each."

demo: venv ## show a Dag wait for a job and gate a deployment (SCENARIO=failed, SCENARIO=cancelled, LOG=file)
	@$(VENV)/bin/python example_dags/run_demo.py $(call option,--scenario,$(SCENARIO)) $(call option,--log,$(LOG))

up: venv ## run Airflow's own UI with the example Dags and a simulated server, until Ctrl-C
	@$(VENV)/bin/python example_dags/run_up.py

test: venv ## run the tests on Airflow 3.3 (ORDER=random shuffles them and prints a seed; SEED=number repeats it)
	@echo "Running the tests on Airflow $(LATEST)"
	@$(VENV)/bin/python -m pytest -m "not system" $(WORKERS) $(ordered) $(ARGS)

test-airflow2: venv2 ## run the tests on Airflow 2.11
	@echo "Running the tests on Airflow $(TWO)"
	@$(VENV2)/bin/python -m pytest -m "not system" $(WORKERS) $(ordered) $(ARGS)

test-system: venv ## run the tests that need a live Airflow, PostgreSQL, or gateways (about 19 minutes)
	@echo "Running the system tests on Airflow $(LATEST)"
	@$(VENV)/bin/python -m pytest tests/system $(ARGS)

lint: venv ## check style, format and types
	@echo "ruff check" && $(VENV)/bin/python -m ruff check .
	@echo "ruff format --check" && $(VENV)/bin/python -m ruff format --check .
	@echo "mypy --strict airflow_ft_events" && $(VENV)/bin/python -m mypy --strict airflow_ft_events

bench: venv ## measure reading, archiving, waiting and imports, against their limits
	@$(VENV)/bin/python benchmarks/run.py

constraints: venv ## renew the pinned versions of all dependencies
	@echo "Looking for the newest versions"
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check uv
	@$(call pin,$(LATEST),3.4)
	@$(call pin,$(TWO),2.12)

clean: ## remove what these targets built
	rm -rf .venv .airflow .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv:
	@$(call build,$(LATEST),3.13 3.12 3.11)

venv2:
	@$(call build,$(TWO),3.12 3.11)

# $(call option,NAME,VALUE): the option, quoted for the shell, if it has a value.
option = $(if $(strip $(2)),$(1) '$(subst ','\'',$(2))')

# The options of ORDER and SEED; a seed alone asks for a random order as well.
ordered = $(if $(filter-out random,$(ORDER)),$(error ORDER must be random or empty, not $(ORDER))) \
  $(if $(ORDER),--random-order) $(call option,--random-order-seed,$(SEED))

# $(call pin,LINE,NEXT): writes constraints/airflow-LINE.txt, good for every Python that the line supports.
define pin
new=$$(mktemp) && { \
  echo "# Versions that this project is tested with on Airflow $(1). Written by: make constraints"; \
  echo "apache-airflow>=$(1),<$(2)" | $(VENV)/bin/python -m uv pip compile --quiet --no-config --universal \
    --python-version 3.11 --no-header --no-annotate --strip-extras --no-emit-index-url --no-emit-find-links \
    --extra test --extra lint pyproject.toml -; \
} > "$$new" && cat "$$new" > constraints/airflow-$(1).txt && rm -f "$$new" \
  && echo "Wrote constraints/airflow-$(1).txt" || { rm -f "$$new"; exit 1; }
endef

# $(call build,LINE,PYTHONS): a virtual environment with Airflow LINE and this project, editable. The files *.key tell
# whether it still fits; they are written last, so that one whose building was interrupted is built again.
define build
set -e; dir=.venv/airflow-$(1); python=; \
base="$(CURDIR) $$(cksum < constraints/airflow-$(1).txt)"; ours="$$(cksum < pyproject.toml)"; \
identify='import sys; print(sys.version, sys.base_prefix)'; \
fits() { [ "$$(cat "$$dir/$$1.key" 2>/dev/null)" = "$$2" ]; }; \
if "$$dir/bin/python" -c '' 2>/dev/null && fits base "$$base" \
  && { [ -z '$(PYTHON)' ] || fits python "$$('$(PYTHON)' -c "$$identify" 2>/dev/null)"; }; then \
  if fits ours "$$ours"; then exit 0; fi; \
  echo "Updating $$dir, since pyproject.toml has changed ..."; \
  rm -f "$$dir"/*.key; \
else \
  for candidate in $(if $(PYTHON),'$(PYTHON)',$(foreach v,$(2),python$(v)) python3 python); do \
    for minor in $(2); do \
      if "$$candidate" -c "import sys, venv, ensurepip, sqlite3; sys.exit('%d.%d' % sys.version_info[:2] != '$$minor')" \
        >/dev/null 2>&1; then python=$$candidate; break 2; fi; \
    done; \
  done; \
  if [ -z "$$python" ]; then \
    echo "Airflow $(1) needs one of these Pythons, with its venv and sqlite3 modules: $(2)." >&2; \
    echo "$(if $(PYTHON),PYTHON=$(PYTHON) is none of them.,None was found on the PATH.)" \
      "Choose one with PYTHON=/path/to/python; on Debian and Ubuntu, python3-venv may be missing." >&2; \
    exit 1; \
  fi; \
  echo "Setting up Airflow $(1) in $$dir with $$("$$python" --version) (first time, about two minutes) ..."; \
  rm -rf "$$dir"; \
  "$$python" -m venv "$$dir"; \
fi; \
"$$dir/bin/python" -m pip install -qq --disable-pip-version-check --no-input \
  --constraint constraints/airflow-$(1).txt --editable '.[test,lint]' 'apache-airflow==$(1).*'; \
"$$dir/bin/python" -c "$$identify" > "$$dir/python.key"; \
printf '%s\n' "$$base" > "$$dir/base.key"; \
printf '%s\n' "$$ours" > "$$dir/ours.key"
endef
