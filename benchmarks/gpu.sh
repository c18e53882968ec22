#!/usr/bin/env bash
# What waits for a GPU, in one go: benchmarks/gpu.sh --out OUT, on a machine with one NVIDIA GPU.
#
#   benchmarks/gpu.sh --out OUT           everything, in ten minutes with its transfers
#   benchmarks/gpu.sh --check             says what is missing here, and runs nothing
#   benchmarks/gpu.sh --out OUT --tiny    the same parts on a CPU, with shapes of no use, to try them
#   benchmarks/gpu.sh --rows OUT/gpu.json the rows for RECORDS.md once more
#
# The machine needs no network. Its python3 (or PYTHON) has PyTorch for its GPU; what else --check
# misses is taken from wheels in .whl/, which git ignores, and goes into a temporary folder. Beside
# transformers, peft and pyarrow that is, for Python 3.12, 10 MB in all:
#
#   pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
#     --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -c constraints.txt -d .whl \
#     diffusers pydantic pydantic-core annotated-types typing-inspection importlib-metadata \
#     datasets dill multiprocess
#
# For the peer, .whl/peer/ holds diffusers' examples text_to_image/train_text_to_image.py,
# train_text_to_image_lora.py and textual_inversion/textual_inversion.py, which need accelerate,
# datasets and torchvision. Where only 64 MB can travel, leave out
# src/vesalius/bundled/mini/text_encoder/model.safetensors: a text encoder of random weights then
# stands in, which changes no time and no comparison of an image with itself.
#
# benchmarks/gpu.py has the parts, in the order of their worth, each with its seconds. One that fails
# or runs out of time does not stop the others; OUT/gpu.json is written after each of them.
#
# Never run, since no GPU was there since they were written: in this script, wheels for another
# machine than this one. In gpu.py, the full shapes of every part. In train/speed.py, what
# torch.cuda.is_available() decides: bfloat16, TF32 and eight loaders for the peer, compiled steps,
# MFU. In train/watched.py and gpu.py, the memory of a real device. In sample/bulk.py --compile on CUDA. The
# tests marked gpu have all run with a CPU that answers to the name of cuda (benchmarks/pretended.py);
# on a real one, tests/train/test_loop.py alone.
set -euo pipefail
started=$(date +%s)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
export PYTHONPATH="$PWD/src:$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1

if compgen -G ".whl/*.whl" >/dev/null; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  install=("$python" -m pip install -q --disable-pip-version-check --no-index --no-deps --no-compile
    --target "$site")
  if ! "${install[@]}" .whl/*.whl 2>/dev/null; then # one that is not for this Python stops them all
    for wheel in .whl/*.whl; do "${install[@]}" "$wheel" || echo "not installed: $wheel" >&2; done
  fi
  export PYTHONPATH="$site:$PYTHONPATH"
fi
"$python" -m benchmarks.gpu --started "$started" "$@"
