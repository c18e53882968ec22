#!/bin/sh
# Chest-Diffusion (arXiv 2407.00752), small, on a CPU: docs/papers/chest-diffusion.md explains it.
#
#   examples/chest-diffusion.sh [DATA [OUT]]
#
# DATA: X-rays with reports, whatever `vesalius pairs` reads. Without it the bundled model draws stand-ins,
# which tries the commands and nothing else. Begin a stopped run again by the same command. IMAGES=N: how
# many images the denoiser sees. COUNT=N: how many are drawn. TEXT: a model, or a folder of a BERT or CLIP.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
PATH="$here/../.venv/bin:$PATH"
data=${1:-} out=${2:-runs/chest-diffusion} images=${IMAGES:-3200} count=${COUNT:-40} text=${TEXT:-mini}
report="Patchy opacities in both lower zones. No pleural effusion. The heart is of normal size."

vesalius info --get efficientnet-lite0
if [ -z "$data" ]; then
  data=$out/stand-ins
  python "$here/stand_ins.py" "$data" "24:covid:PA chest X-ray, COVID-19 pneumonia" "24:normal:chest X-ray of a child, normal"
  for image in "$data"/covid/*.jpg; do echo "$report" > "${image%.jpg}.txt"; done
  for image in "$data"/normal/*.jpg; do echo "The lungs are clear. The heart is normal." > "${image%.jpg}.txt"; done
fi
vesalius pairs "$data" --captions chest-diffusion --text-encoder none --out "$out/pairs.parquet"
vesalius train chest-diffusion-text --pairs "$out/pairs.parquet" --out "$out/text" --resume size=96 \
  text_encoder.source="$text" text_encoder.tokens=128 optimisation.seen_images="$((images / 4))" optimisation.batch=32 \
  optimisation.warmup_images=160 optimisation.validate_images=400 optimisation.checkpoint_images=400
tiny="width=192 layers=7 heads=6 tokens=128 cross_attention_dim=384"
length="batch=32 seen_images=$images warmup_images=640 ema_half_life_images=1000 validate_images=800
  checkpoint_images=800 validation_size=64 sample_images=0"
vesalius train chest-diffusion --pairs "$out/pairs.parquet" --out "$out/run" --resume --model mini sampler.steps=20 \
  text_encoder.source="$out/text/text_encoder" text_encoder.tokens=128 \
  $(printf 'denoiser.arguments.%s ' $tiny) $(printf 'denoiser.optimisation.%s ' $length)

vesalius generate "$report" --model "$out/run/generator" -n 8 --out "$out/generated" --overwrite
vesalius plan --pairs "$out/pairs.parquet" --total "$count" --share real --out "$out/plan.csv" --overwrite
vesalius synthesize "$out/plan.csv" --model "$out/run/generator" --out "$out/set"
vesalius evaluate --real "$out/pairs.parquet" --synthetic "$out/set" --trained-on "$out/run" \
  --extractors efficientnet-lite0 --out "$out/evidence" --overwrite
echo "Look at: $out/pairs.datasheet.html $out/generated/contact-sheet.png $out/evidence/report.html"
