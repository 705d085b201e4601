PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FASTMATCH := ../$(BIN)/fastmatch
NETWORK := "mlp(64, 512, 512, 10)"

.PHONY: demo test lint types studies clean

# torch is installed first and by its exact version: with a range, pip may bring several GB of GPU packages.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

# Train two networks on the embedded digits, align them, and draw the barrier before and after.
demo: $(VENV)/.installed
	mkdir -p demo
	cd demo && $(FASTMATCH) train $(NETWORK) --data digits --epochs 30 --seed 0 -o a.pt
	cd demo && $(FASTMATCH) train $(NETWORK) --data digits --epochs 30 --seed 1 -o b.pt
	cd demo && $(FASTMATCH) align a.pt b.pt --method activation
	cd demo && $(FASTMATCH) barrier --alphas 25 --plot barrier.png --json barrier.json

test: $(VENV)/.installed lint types
	$(BIN)/python -m pytest -n 2

# Every experiment of the papers at its small size, into studies/results. MNIST is used where FASTMATCH_DATA has it.
studies: $(VENV)/.installed
	$(BIN)/python -m studies.run_all

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo studies/.cache .pytest_cache .mypy_cache .ruff_cache
