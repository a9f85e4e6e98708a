# make demo: the benchmark on real recordings, in a few minutes.   make test: every check that CI runs.
BIN := .venv/bin

.PHONY: demo test test-fast lint clean

.venv/.ready: pyproject.toml constraints.txt scripts/setup
	scripts/setup

demo: .venv/.ready
	$(BIN)/codecbench run benchmark/demo.yaml --out results/demo || [ $$? -eq 2 ]
	$(BIN)/codecbench table results/demo
	$(BIN)/codecbench site results/demo --out results/demo/site

test: lint
	$(BIN)/pytest -n 2 --dist worksteal -q

test-fast: .venv/.ready
	$(BIN)/pytest -n 2 --dist worksteal -q -m "not slow"

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv build dist results/demo
