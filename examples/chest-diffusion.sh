#!/bin/sh
# Chest-Diffusion (arXiv 2407.00752), small, on a CPU: docs/papers/chest-diffusion.md explains it.
#
#   examples/chest-diffusion.sh [DATA [OUT]]
#
# DATA: X-rays with reports, whatever `vesalius pairs` reads. Without it the bundled model draws stand-ins,
# which tries the commands and nothing else. Begin a stopped run again by the same command. IMAGES=N: how
# many images the denoiser sees; REPORTS=N: how many pairs the text encoder sees; COUNT=N: how many are
# drawn. TEXT: a model, or a folder of a BERT or CLIP.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
PATH="$here/../.venv/bin:$PATH"
data=${1:-} out=${2:-runs/chest-diffusion} images=${IMAGES:-24000} reports=${REPORTS:-800}
count=${COUNT:-40} text=${TEXT:-mini}
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
  text_encoder.source="$text" text_encoder.tokens=32 optimisation.seen_images="$reports" optimisation.batch=32 \
  optimisation.warmup_images=160 optimisation.validate_images=400 optimisation.checkpoint_images=400
# A small stand-in of the paper's U-ViT, by what learns fastest in minutes: 64 pixels first, then 128; a flow
# and Muon instead of the paper's noise and AdamW; the first 32 tokens of a report.
small="width=128 layers=7 heads=4 tokens=32 cross_attention_dim=384"
length="optimiser=muon lr=1e-3 batch=16 betas=[0.9,0.99] weight_decay=0 precision=auto schedule=wsd
  seen_images=$images warmup_images=$((images / 60)) decay_images=$((images * 3 / 10)) ema_half_life_images=600
  validate_images=4000 checkpoint_images=4000 validation_size=64 sample_images=0"
vesalius train chest-diffusion --pairs "$out/pairs.parquet" --out "$out/run" --resume --model mini size=128 \
  text_encoder.source="$out/text/text_encoder" text_encoder.tokens=32 \
  "denoiser.sizes=[{size: 64, until_images: $((images * 6 / 10))}]" \
  sampler.steps=20 sampler.scheduler.prediction_type=flow_prediction sampler.scheduler.use_flow_sigmas=true \
  $(printf 'denoiser.arguments.%s ' $small) $(printf 'denoiser.optimisation.%s ' $length)

vesalius generate "$report" --model "$out/run/generator" -n 8 --out "$out/generated" --overwrite
vesalius plan --pairs "$out/pairs.parquet" --total "$count" --share real --out "$out/plan.csv" --overwrite
vesalius synthesize "$out/plan.csv" --model "$out/run/generator" --out "$out/set"
vesalius evaluate --real "$out/pairs.parquet" --synthetic "$out/set" --trained-on "$out/run" \
  --extractors efficientnet-lite0 --out "$out/evidence" --overwrite
echo "Look at: $out/pairs.datasheet.html $out/generated/contact-sheet.png $out/evidence/report.html"
