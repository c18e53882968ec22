#!/bin/sh
# Textual Inversion (arXiv 2303.13430), small, on a CPU: docs/papers/textual-inversion.md explains it.
#
#   examples/textual-inversion.sh [DATA [OUT]]
#
# DATA: what `vesalius pairs` reads, with two labels: a folder with two of images, say. Without it the
# bundled model draws stand-ins, which tries the commands and nothing else. Begin a stopped run again by
# the same command. IMAGES=N: how many images each new word sees. COUNT=N: how many are drawn of each.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
PATH="$here/../.venv/bin:$PATH"
data=${1:-} out=${2:-runs/textual-inversion} images=${IMAGES:-1200} count=${COUNT:-20}

vesalius info --get efficientnet-lite0
if [ -z "$data" ]; then
  data=$out/stand-ins
  python "$here/stand_ins.py" "$data" "24:healthy:brain MRI, no tumor" "24:tumor:brain MRI, meningioma"
fi
vesalius pairs "$data" --out "$out/pairs.parquet"
vesalius train textual-inversion --pairs "$out/pairs.parquet" --out "$out/run" --resume --model mini size=256 \
  embedding.vectors=16 optimisation.batch=4 optimisation.seen_images="$images" optimisation.sample_images=0 \
  optimisation.validate_images=200 optimisation.checkpoint_images=400 optimisation.validation_size=32

set -- "$out"/run/*/adapter
[ $# -ge 2 ] || { echo "two labels are needed, and there is $#" >&2; exit 2; }
first=$1 second=$2
a="<$(basename "$(dirname "$first")")>" b="<$(basename "$(dirname "$second")")>"
with_words() { vesalius "$@" --adapter "$first" --adapter "$second"; }
with_words generate "$a" "$b" -n 4 --out "$out/generated" --overwrite
with_words interpolate "$a" "$b" --frames 7 --seed 3 --out "$out/between" --overwrite
with_words generate "$a:0.3 AND $b:0.7" "$a AND $b:0.5" -n 4 --out "$out/composed" --overwrite
with_words inpaint "$out/generated/00000.png" --prompt "$b" --ellipse 0.5,0.5,0.2,0.25 -n 4 --out "$out/inpainted" --overwrite
vesalius plan --pairs "$out/pairs.parquet" --adapter "$out/run" --template "<word>" --per-class "$count" \
  --out "$out/plan.csv" --overwrite
vesalius synthesize "$out/plan.csv" --adapter "$out/run" --out "$out/set"
vesalius evaluate --real "$out/pairs.parquet" --synthetic "$out/set" --trained-on "$out/pairs.parquet" \
  --extractors efficientnet-lite0 --out "$out/evidence" --overwrite
echo "Look at: $out/generated/contact-sheet.png $out/between/strip.png $out/evidence/report.html"
