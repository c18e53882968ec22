"""EyeDiff's experiment: rare classes of fundus images topped up, against oversampling.

    vesalius train benchmarks/utility/base.yaml --pairs base.parquet --out BASE ...
    python -m benchmarks.utility.fundus --pairs base.parquet --model BASE/generator --work WORK --out OUT

Real images are those of `native` 400x400: in the others the class goes with the source. Among them
normal and diabetic retinopathy are three times as frequent as cataract and glaucoma. The generator
has learned from the training rows of the same table, and was chosen on its validation rows; the
test rows, whole groups of near-copies, are new to it and to the classifier.
"""

from benchmarks.utility.stages import topped_up

if __name__ == "__main__":
    topped_up(__doc__, "fundus", 420, lambda row: row["native"] == "400x400")
