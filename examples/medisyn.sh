#!/bin/sh
# MediSyn (arXiv 2405.09806) at small scale, on a CPU: see docs/papers/medisyn.md.
#
#   examples/medisyn.sh [DATA [OUT [OPTIONS of vesalius pairs]]]
#
# DATA: a folder of several sets, a Parquet file each, named as in the prompt dictionary (dermoscopy,
# fundus, brain_mri, ...). Without it the bundled model draws stand-ins for three, which tries the
# commands and nothing else. A few hundred training images are meant for ten minutes; of more, --fraction 0.1 takes
# a part. Begin a stopped run again by the same command. SET=NAME: whose classifiers are compared.
# IMAGES=N: how many images the training sees. COUNT=N: how many are drawn.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
PATH="$here/../.venv/bin:$PATH"
data=${1:-} out=${2:-runs/medisyn} set=${SET:-dermoscopy} images=${IMAGES:-1024}
[ $# -lt 2 ] && shift $# || shift 2

vesalius info --get efficientnet-lite0
if [ -z "$data" ]; then
  stand_ins() { python "$here/stand_ins.py" "$out/stand-ins/$@"; }
  stand_ins dermoscopy "60:nv:dermoscopic photograph of a nevus" "30:mel:dermoscopic photograph of a melanoma"
  stand_ins fundus "20:normal:color fundus photograph, normal retina" "20:glaucoma:color fundus photograph, glaucoma"
  stand_ins brain_mri "20:notumor:brain MRI, no tumor" "20:glioma:brain MRI, glioma"
  for each in dermoscopy fundus brain_mri; do set -- "$@" "$each=$out/stand-ins/$each"; done
else set -- "$data" "$@"; fi
vesalius pairs --captions medisyn --split val=0.15,test=0.25 "$@" --out "$out/pairs.parquet"
vesalius train medisyn --pairs "$out/pairs.parquet" --out "$out/run" --resume --model mini size=256 \
  optimisation.batch=16 optimisation.seen_images="$images" optimisation.validate_images="$((images / 4))" \
  optimisation.checkpoint_images="$((images / 2))" optimisation.validation_size=64
vesalius plan --pairs "$out/pairs.parquet" --total "${COUNT:-200}" --share even --out "$out/plan.csv" --overwrite
vesalius synthesize "$out/plan.csv" --model "$out/run/generator" --guard "$out/pairs.parquet" --out "$out/set"
vesalius evaluate --real "$out/pairs.parquet" --synthetic "$out/set" --trained-on "$out/run" --by source \
  --extractors efficientnet-lite0 --store "$out/features" --out "$out/evidence" --overwrite
vesalius utility --real "$out/pairs.parquet" --synthetic "$out/set" --trained-on "$out/run" --where source="$set" \
  --fractions 0.1,1 --arms real,synthetic,mixed,pretrained --ratios 1 --backbone efficientnet-lite0 \
  --store "$out/features" --out "$out/utility" --overwrite
echo "Look at: $out/pairs.datasheet.html $out/set/contact-sheet.png $out/evidence/report.html $out/utility/report.html"
