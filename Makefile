# `make demo` and `make test` set everything up first; a second set-up takes a moment.
# ARGS goes to the command: make demo ARGS="--use-case clicks", make test ARGS="tests/unit -x".
.POSIX:
.PHONY: setup demo test test-full test-faults check ui format clean

# WORKERS is how many processes share the tests; each file stays with one.
ARGS =
WORKERS = 2
BIN = .venv/bin

setup:
	@bash .ci/setup

demo: setup
	@$(BIN)/headrace demo $(ARGS)

test: setup
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-full: setup
	@$(BIN)/python -m pytest -m full --durations=0 --durations-min=1 $(ARGS)

test-faults: setup
	@$(BIN)/python -m pytest -m faults -s $(ARGS)

check: setup
	@echo "ruff check" && $(BIN)/ruff check
	@echo "ruff format --check" && $(BIN)/ruff format --check
	@echo "pyright" && $(BIN)/pyright
	@echo "lint-imports" && $(BIN)/lint-imports --no-logo

ui: setup
	@$(BIN)/headrace ui $(ARGS)

format: setup
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

# The lake in .headrace/ stays: it holds data.
clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache spark-warehouse metastore_db derby.log
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
