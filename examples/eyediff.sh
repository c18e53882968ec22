#!/bin/sh
# EyeDiff (arXiv 2411.10004) at small scale, on a CPU: see docs/papers/eyediff.md.
#
#   examples/eyediff.sh [DATA [OUT [OPTIONS of vesalius pairs]]]
#
# DATA: images of the eye with labels, whatever `vesalius pairs` reads; fundus=DATA names the entry of
# the prompt dictionary. Without it the bundled model draws stand-ins, which tries the commands and
# nothing else. A few hundred training images are meant for ten minutes; of a larger set, --fraction 0.3 takes part.
# Begin a stopped run again by the same command. IMAGES=N: how many images the training sees.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
PATH="$here/../.venv/bin:$PATH"
data=${1:-} out=${2:-runs/eyediff} images=${IMAGES:-2000}
[ $# -lt 2 ] && shift $# || shift 2

vesalius info --get efficientnet-lite0
if [ -z "$data" ]; then
  data=fundus=$out/stand-ins
  python "$here/stand_ins.py" "$out/stand-ins" \
    "60:normal:color fundus photograph, normal retina" \
    "40:diabetic_retinopathy:color fundus photograph, diabetic retinopathy" \
    "20:glaucoma:color fundus photograph, glaucoma" "20:cataract:color fundus photograph, cataract"
fi
vesalius pairs "$data" --captions eyediff --split val=0.15,test=0.25 "$@" --out "$out/pairs.parquet"
vesalius train eyediff --pairs "$out/pairs.parquet" --out "$out/run" --resume --model mini size=256 \
  optimisation.seen_images="$images" optimisation.validate_images="$((images / 4))" \
  optimisation.checkpoint_images="$((images / 2))" optimisation.validation_size=64
vesalius plan --pairs "$out/pairs.parquet" --balance --out "$out/plan.csv" --overwrite
vesalius synthesize "$out/plan.csv" --model "$out/run/generator" --guard "$out/pairs.parquet" --out "$out/set"
vesalius evaluate --real "$out/pairs.parquet" --synthetic "$out/set" --trained-on "$out/run" \
  --extractors efficientnet-lite0 --store "$out/features" --out "$out/evidence" --overwrite
vesalius utility --real "$out/pairs.parquet" --synthetic "$out/set" --trained-on "$out/run" \
  --arms real,oversampled,weighted,minority --backbone efficientnet-lite0 \
  --store "$out/features" --out "$out/utility" --overwrite
echo "Look at: $out/pairs.datasheet.html $out/set/contact-sheet.png $out/evidence/report.html $out/utility/report.html"
