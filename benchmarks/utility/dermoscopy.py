"""MediSyn's experiment: 1 %, 10 % and all of the dermoscopy images, with and without synthetic ones.

    vesalius train benchmarks/utility/base.yaml --pairs base.parquet --out BASE ...
    python -m benchmarks.utility.dermoscopy --pairs base.parquet --model BASE/generator --work WORK --out OUT

Splits keep the images of a lesion together. As in the paper, the generator has learned from all
training images whatever part of them a classifier gets: with 1 % real images, synthetic ones carry
what was learned from the other 99 %.
"""

from benchmarks.utility.stages import topped_up

if __name__ == "__main__":
    topped_up(__doc__, "dermoscopy", 250, lambda row: True, "0.01,0.1,1", ("--ratios", "1,5"))
