#!/bin/sh
# Textual Inversion (arXiv 2303.13430), small, on a CPU: docs/papers/textual-inversion.md explains it.
#
#   examples/textual-inversion.sh [DATA [OUT]]
#
# DATA is what `vesalius pairs` reads, with two labels: a folder with two of images, say. Without it
# the bundled model draws 24 images of two kinds, which only tries the commands and shows nothing else.
# A stopped run goes on by the same command. IMAGES=N sets how many images each new word sees.
set -eu
PATH="$PATH:$(cd "$(dirname "$0")/.." && pwd)/.venv/bin"
data=${1:-} out=${2:-runs/textual-inversion} images=${IMAGES:-1200}
mkdir -p "$out"

if [ -z "$data" ]; then
  vesalius plan --prompt "brain MRI, no tumor" --label healthy --prompt "brain MRI, meningioma" \
    --label tumor -n 12 --out "$out/drawn.csv" --overwrite
  data=$out/drawn
  vesalius synthesize "$out/drawn.csv" --out "$data"
fi
vesalius pairs "$data" --out "$out/pairs.parquet"

vesalius train textual-inversion --pairs "$out/pairs.parquet" --out "$out/run" --resume --model mini \
  size=256 embedding.vectors=16 optimisation.batch=4 optimisation.seen_images="$images" \
  optimisation.validate_images=200 optimisation.checkpoint_images=400 optimisation.validation_size=32 \
  optimisation.sample_images=0
set -- "$out"/run/*/adapter
[ $# -ge 2 ] || { echo "two labels are needed, and there is $#" >&2; exit 2; }
first=$1 second=$2
a="<$(basename "$(dirname "$first")")>" b="<$(basename "$(dirname "$second")")>"
with_words() { vesalius "$@" --adapter "$first" --adapter "$second"; }

with_words generate "$a" "$b" -n 4 --out "$out/generated" --overwrite
with_words interpolate "$a" "$b" --frames 7 --seed 3 --out "$out/between" --overwrite
with_words generate "$a:0.3 AND $b:0.7" "$a AND $b:0.5" -n 4 --out "$out/composed" --overwrite
with_words inpaint "$out"/between/000*.png --prompt "$b" --ellipse 0.5,0.5,0.2,0.25 -n 4 \
  --out "$out/inpainted" --overwrite
vesalius plan --pairs "$out/pairs.parquet" --adapter "$out/run" --per-class 20 --template "$a" --out "$out/plan.csv" --overwrite
with_words synthesize "$out/plan.csv" --out "$out/set"
vesalius evaluate --real "$out/pairs.parquet" --synthetic "$out/set" --out "$out/evidence"
