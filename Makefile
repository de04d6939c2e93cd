# The front door. `make help` lists it; every target sets up what it needs.
PYTHON ?= python3
BIN := .venv/bin
TEXT ?= Hello from a function that has no server.
OUT ?= hello.wav
MODEL ?= hibari
VOICE ?=
SPEED ?= 1.0
RUNPOD_OPTIONS = --target "$(or $(TARGET),runpod)" --type "$(or $(TYPE),queue)" $(if $(COMPUTE),--compute "$(COMPUTE)")
SPECS := $(wildcard functions/*/pyproject.toml)

.DEFAULT_GOAL := help
.PHONY: help say emulate test test-slow coverage-page check format bench new-function install setup lock clean
.PHONY: plan-runpod deploy-runpod destroy-runpod plan-modal deploy-modal destroy-modal
.PHONY: conformance-runpod-cloud conformance-modal conformance-modal-cloud chaos-runpod hang-ups

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 28

say: .venv/.run  ## speak: make say TEXT="Hello." OUT=hello.wav [MODEL= VOICE= SPEED=]
	@$(BIN)/python -m infra.local say "$$SAY_TEXT" --out "$(OUT)" --model "$(MODEL)" --voice "$(VOICE)" --speed "$(SPEED)"
say: export SAY_TEXT = $(TEXT)

emulate: .venv/.run  ## emulator and gateway on loopback, until Ctrl-C
	@$(BIN)/python -m infra.local emulate

test: .venv/.dev  ## the tests: make test [ARGS="-k name"]
	$(BIN)/python -m pytest $(ARGS)

test-slow: .venv/.dev  ## minutes of listening: every codec, fifty sentences and a two-minute text
	$(BIN)/python -m pytest -m slow -rP $(ARGS)

conformance-runpod-cloud: .venv/.dev  ## RunPod itself, held to the same checklist: see docs/emulator.md
	$(BIN)/python -m pytest -m runpod_cloud tests/conformance -rs $(ARGS)

conformance-modal: .venv/.dev  ## Modal's checklist with three releases of its SDK: [ARGS="1.5.4"]
	$(BIN)/python -m tests.conformance.sdk_versions $(ARGS)

conformance-modal-cloud: .venv/.dev  ## Modal itself, held to what needs no emulator: see docs/emulator.md
	$(BIN)/python -m pytest -m modal_cloud tests/conformance -rs $(ARGS)

test-deploy: .venv/.dev  ## every function deployed at the emulated Modal by Modal's own CLI, and heard
	$(BIN)/python -m pytest -m 'slow or not slow' tests/integration/test_modal_*.py

hang-ups: .venv/.dev  ## a client that hangs up 1,000 times on each of Modal's ways: what is left behind
	$(BIN)/python -m pytest -m slow -rP tests/integration/test_hangups.py

chaos-runpod: .venv/.dev  ## 10,000 jobs while workers die and connections break: [ARGS="--jobs 500 --out docs/benchmarks.md"]
	$(BIN)/python -m tests.chaos.runpod $(ARGS)

check: .venv/.dev  ## style, types, import rules
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy && $(BIN)/lint-imports

format: .venv/.dev  ## put the code into shape
	$(BIN)/ruff check --fix-only . && $(BIN)/ruff format .

coverage-page: .venv/.dev  ## write docs/emulator-coverage.md from the conformance tests
	$(BIN)/python -m tests.coverage_page

bench: .venv/.dev  ## measure ourselves and others side by side, into docs/benchmarks.md: [ARGS=runpod]
	$(BIN)/pip install -q -c constraints.txt -e '.[bench]' && $(BIN)/python -m tests.bench $(ARGS)

new-function: .venv/.run  ## a new function from the template: make new-function NAME=x
	@$(BIN)/python -m infra.new_function "$(NAME)"

plan-runpod: .venv/.run  ## what deploy-runpod would do: FUNCTION=x [TYPE=load_balancer COMPUTE=gpu|cpu TARGET=emulator]
	@$(BIN)/python -m infra.runpod plan "$(FUNCTION)" $(RUNPOD_OPTIONS)

deploy-runpod: .venv/.run  ## build, push, deploy at RunPod, speak a sentence, write the route: options as above
	@$(BIN)/python -m infra.runpod deploy "$(FUNCTION)" $(RUNPOD_OPTIONS)

destroy-runpod: .venv/.run  ## delete the endpoint at RunPod and its route: options as above
	@$(BIN)/python -m infra.runpod destroy "$(FUNCTION)" $(RUNPOD_OPTIONS)

plan-modal: .venv/.run  ## what a deployment at Modal would do: make plan-modal FUNCTION=x [TARGET=emulator]
	@$(BIN)/python -m infra.modal plan "$(FUNCTION)" --target "$(or $(TARGET),modal)"

deploy-modal: .venv/.run  ## deploy at Modal, speak a sentence, write the route: FUNCTION=x [TARGET=emulator]
	@$(BIN)/python -m infra.modal deploy "$(FUNCTION)" --target "$(or $(TARGET),modal)"

destroy-modal: .venv/.run  ## stop the app at Modal and remove its route: FUNCTION=x [TARGET=emulator]
	@$(BIN)/python -m infra.modal destroy "$(FUNCTION)" --target "$(or $(TARGET),modal)"

install: .venv/.run  ## what one function needs: make install FUNCTION=x
	$(BIN)/python -m infra.dependencies $(FUNCTION) | $(BIN)/pip install -q -c constraints.txt -r /dev/stdin

setup: .venv/.dev  ## the environment, with everything that tests need

lock: .venv/.dev  ## write constraints.txt from what is installed
	$(BIN)/pip freeze --exclude-editable > constraints.txt

clean:  ## remove the environment
	rm -rf .venv

.venv/.run: pyproject.toml constraints.txt $(SPECS)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[gateway,modal]'
	$(BIN)/python -m infra.dependencies | $(BIN)/pip install -q -c constraints.txt -r /dev/stdin && touch $@

.venv/.dev: .venv/.run
	$(BIN)/pip install -q -c constraints.txt -e '.[gateway,runpod,modal,dev]' && touch $@
