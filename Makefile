# make demo: the benchmark on real recordings, in a few minutes.   make test: style, types, architecture, tests.
BIN := .venv/bin
# Two processes of one thread each: threads of both on two cores would mostly wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -q

.PHONY: demo test test-slow lint clean

.venv/.ready: pyproject.toml constraints.txt scripts/setup
	scripts/setup

demo: .venv/.ready
	$(BIN)/codecbench run benchmark/demo.yaml --out results/demo || [ $$? -eq 2 ]
	$(BIN)/codecbench table results/demo
	$(BIN)/codecbench site results/demo --out results/demo/site

test: lint
	$(PYTEST) -m "not slow"

# Minutes long each: twenty kills of one run, ten-second clips through every network, a wheel elsewhere. All of them take
# most of an hour on two cores; `make test-slow SLOW=FOLDERS` runs some.
SLOW := tests
test-slow: .venv/.ready
	$(PYTEST) -m slow $(SLOW)

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv build dist results/demo
