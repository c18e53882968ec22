#!/bin/sh
# CytoDiff (arXiv 2507.05063) at small scale, on a CPU: see docs/papers/cytodiff.md.
#
#   examples/cytodiff.sh [DATA [OUT [OPTIONS of vesalius pairs]]]
#
# DATA: single white blood cells with labels, whatever `vesalius pairs` reads. Without it the bundled
# model draws stand-ins, which tries the commands and nothing else. Begin a stopped run again by the
# same command. IMAGES=N: how many images the training of each class sees. COUNT=N: how many are drawn.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
PATH="$here/../.venv/bin:$PATH"
data=${1:-} out=${2:-runs/cytodiff} images=${IMAGES:-256}
[ $# -lt 2 ] && shift $# || shift 2

vesalius info --get efficientnet-lite0
if [ -z "$data" ]; then
  data=cells=$out/stand-ins
  python "$here/stand_ins.py" "$out/stand-ins" "40:eosinophil:blood cell microscopy, eosinophil" \
    "40:lymphocyte:blood cell microscopy, lymphocyte" "40:neutrophil:blood cell microscopy, neutrophil"
fi
# the 16 shots come from the training part alone; the test part holds only real images
vesalius pairs "$data" --captions cytodiff --split val=0.15,test=0.25 --shots 16 "$@" --out "$out/pairs.parquet"
vesalius train cytodiff --pairs "$out/pairs.parquet" --out "$out/run" --resume --model mini size=256 \
  lora.targets=all optimisation.lr=1e-3 optimisation.seen_images="$images" \
  optimisation.warmup_images="$((images / 8))" optimisation.validate_images="$((images / 2))" \
  optimisation.checkpoint_images="$images" optimisation.validation_size=32 optimisation.sample_images=0
vesalius plan --pairs "$out/pairs.parquet" --per-class "${COUNT:-40}" --out "$out/plan.csv" --overwrite
vesalius synthesize "$out/plan.csv" --adapter "$out/run" --guard "$out/pairs.parquet" --out "$out/set" # a LoRA a class
vesalius evaluate --real "$out/pairs.parquet" --synthetic "$out/set" \
  --extractors efficientnet-lite0 --store "$out/features" --out "$out/evidence" --overwrite
vesalius utility --real "$out/pairs.parquet" --synthetic "$out/set" \
  --arms real,augmented,synthetic,mixed,pretrained --ratios 1,2.5 --backbone efficientnet-lite0 \
  --store "$out/features" --out "$out/utility" --overwrite
echo "Look at: $out/pairs.datasheet.html $out/set/contact-sheet.png $out/evidence/report.html $out/utility/report.html"
