#!/bin/sh
# Chest-Diffusion (arXiv 2407.00752), small, on a CPU: docs/papers/chest-diffusion.md explains it.
#
#   examples/chest-diffusion.sh [DATA [OUT]]
#
# DATA is what `vesalius pairs` reads, X-rays with a column of reports, findings or captions. Without it
# the bundled model draws 48 images, whose prompts stand for reports: that only tries the commands.
# A stopped run goes on by the same command. IMAGES=N sets how many images the denoiser sees, TEXT the
# text encoder to begin with: a model's, or a folder of a BERT or CLIP.
set -eu
PATH="$PATH:$(cd "$(dirname "$0")/.." && pwd)/.venv/bin"
data=${1:-} out=${2:-runs/chest-diffusion} images=${IMAGES:-6400} text=${TEXT:-mini}
report="Bilateral patchy opacities in the lower zones of both lungs. No pleural effusion. The heart is of normal size."
mkdir -p "$out"

if [ -z "$data" ]; then
  vesalius plan --prompt "PA chest X-ray of a 60-year-old man, COVID-19 pneumonia" --label COVID-19 \
    --prompt "AP chest X-ray of a 40-year-old woman, no finding" --label "No Finding" \
    -n 24 --out "$out/drawn.csv" --overwrite
  data=$out/drawn
  vesalius synthesize "$out/drawn.csv" --out "$data"
fi
vesalius pairs "$data" --captions chest-diffusion --text-encoder none --out "$out/pairs.parquet"

vesalius train chest-diffusion-text --pairs "$out/pairs.parquet" --out "$out/text" --resume size=96 \
  text_encoder.source="$text" text_encoder.tokens=128 optimisation.seen_images=$((images / 4)) \
  optimisation.batch=32 optimisation.warmup_images=160 optimisation.validate_images=400 \
  optimisation.checkpoint_images=800
tiny="width=192 layers=7 heads=6 tokens=128 cross_attention_dim=384"
vesalius train chest-diffusion --pairs "$out/pairs.parquet" --out "$out/run" --resume --model mini \
  text_encoder.source="$out/text/text_encoder" text_encoder.tokens=128 sampler.steps=20 \
  $(printf 'denoiser.arguments.%s ' $tiny) denoiser.optimisation.seen_images="$images" \
  denoiser.optimisation.batch=32 denoiser.optimisation.warmup_images=640 \
  denoiser.optimisation.ema_half_life_images=1000 denoiser.optimisation.validate_images=800 \
  denoiser.optimisation.checkpoint_images=1600 denoiser.optimisation.validation_size=64 \
  denoiser.optimisation.sample_images=0 denoiser.optimisation.compile=false

vesalius generate "$report" --model "$out/run/generator" -n 8 --out "$out/generated" --overwrite
vesalius plan --pairs "$out/pairs.parquet" --total 48 --share real --out "$out/plan.csv" --overwrite
vesalius synthesize "$out/plan.csv" --model "$out/run/generator" --out "$out/set"
vesalius evaluate --real "$out/pairs.parquet" --synthetic "$out/set" --trained-on "$out/run" --out "$out/evidence"
