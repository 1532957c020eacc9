PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests that download packages are left out; .ci/run includes them.
TESTS ?= -m 'not network'
# uv installs in 20 s what takes pip 2 minutes. It reads no pip.conf: pip is there for mirrors.
install = $(BIN)/uv --no-config pip install --quiet --python $(1)/bin/python $(2) \
	|| $(BIN)/python -m pip --python $(1)/bin/python install --quiet $(2)
# uv compiles nothing. The first process that imports TensorFlow does, in 10 s; all later ones would
# compile it again where the environment forbids Python to keep the result.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test types style docs bench-docs lock clean

demo: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" sh bench/demo.sh demo

# mypy takes as long as the other checks and the device's environment together.
test: $(READY)
	$(MAKE) --jobs=2 types style docs $(VENV)-device/.ready
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(TESTS)

types: $(READY)
	$(BIN)/mypy

style: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# Into build/site. All pages are made anew: those made from code do not change their own file.
docs: $(READY)
	PYTHONPATH="$(CURDIR)" $(BIN)/zensical build --strict --clean

bench-docs: $(READY) $(VENV)-device/.ready
	PATH="$(CURDIR)/$(BIN):$$PATH" sh bench/docs.sh bench-docs "$(CURDIR)/$(VENV)-device/bin/python" docs

$(READY): requirements.txt .ci/uv.txt pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Python 3.11 to 3.13 is needed, this is %d.%d: make PYTHON=..." % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement .ci/uv.txt
	$(call install,$(VENV),--require-hashes --requirement requirements.txt)
	$(call install,$(VENV),--no-deps --no-build-isolation --editable .)
	touch $@

$(VENV)-device/.ready: tests/device-requirements.txt | $(READY)
	$(PYTHON) -m venv --without-pip $(VENV)-device
	$(call install,$(VENV)-device,--require-hashes --requirement tests/device-requirements.txt)
	touch $@

lock: $(READY)
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--extra train --extra samples --extra dev --upgrade --output-file requirements.txt pyproject.toml
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--upgrade --output-file tests/device-requirements.txt tests/device-requirements.in
	echo uv | $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
		--no-annotate --upgrade --output-file .ci/uv.txt -

clean:
	rm -rf $(VENV) $(VENV)-device demo bench-docs build dist .cache
