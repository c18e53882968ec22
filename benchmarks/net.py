"""A net under a change of the code: the same commands on the same small input, before and after it.

    python -m benchmarks.net record --out NET.json [--keep FOLDER] [--only NAME ...]
    python -m benchmarks.net compare NET.json [NEW.json] [--keep FOLDER] [--only NAME ...]

`record` runs the command line on a small set that it draws and stores of each command its exit code,
its seconds and a hash of each file that it wrote: of an image's pixels and texts, a table's columns, a
model's tensors, without times, rates, versions, paths and dates. `compare` does the same again, or reads
another record, lists what is not as it was, and exits with 1 where anything is. --keep holds the masked
texts by their hash: given to both, it tells the first line that differs. What the commands of --only
read from is made, too.

The code under test is that of PYTHONPATH, else the one beside this file. It runs on one thread of the
CPU, in float32 but for what `augment` generates. Other processors and versions of torch round otherwise,
and files carry the version of the package: a net holds for one machine and one version.
"""

import argparse
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from PIL import Image, ImageSequence

from benchmarks.recording import hardware, table

CODE = Path(__file__).resolve().parents[1]
MINI = CODE / "src/vesalius/bundled/mini"
WEIGHTS = Path(os.environ.get("VESALIUS_WEIGHTS") or Path.home() / ".cache/vesalius/weights")
SIDE, DISCS, RINGS = 64, 28, 20  # pixels of an image, images of the two classes
DRAW = "--steps 2 --dtype float32"
PLAN = """{"seen_images":16,"batch":4,"lr":1e-3,"warmup_images":4,"ema_half_life_images":4,
  "validate_images":8,"validation_size":4,"checkpoint_images":8,"precision":"float32"}"""
TUNE = f"--pairs pairs.parquet --model mini size=64 'optimisation={PLAN}'"
JUDGE = "--backbone efficientnet-lite0 --extractors efficientnet-lite0"
COMMANDS: dict[str, str] = yaml.safe_load(f"""
info: info
pairs: pairs real --captions words.yaml --split val=0.2,test=0.3 --out pairs.parquet
pairs-check: pairs --check pairs.parquet
plan: plan --pairs pairs.parquet --balance --captions words.yaml --attribute sex=F,M --out plan.csv
plan-prompts: plan --prompt 'a bright ring' --prompt 'a bright disc' --label ring --label disc -n 6
  --size 64 --steps 2 --sampler euler --out twelve.parquet
train-scratch: train mini --pairs pairs.parquet size=64 text_encoder.source=text
  text_encoder.tokens=24 text_encoder.vocabulary=500 autoencoder.init=null autoencoder.encoder=mini
  autoencoder.arguments.num_decoder_blocks=[1,1,1,0] autoencoder.crop=32 autoencoder.latent_noise=0.1
  autoencoder.discriminator_start_images=8 'autoencoder.optimisation={PLAN}'
  denoiser.arguments.sample_size=8 denoiser.arguments.block_out_channels=[32,32,64]
  denoiser.arguments.norm_num_groups=16 denoiser.views=2 'denoiser.sizes=[{{"size":32,"until_images":8}}]'
  'denoiser.optimisation={PLAN}' denoiser.optimisation.optimiser=muon
  denoiser.optimisation.sample_images=16 sampler.steps=2 --out scratch
train-lora: train augment-lora {TUNE} lora.rank=4 lora.targets=all --out lora
train-words: train augment-textual-inversion {TUNE} embedding.vectors=2 --out words
adapter: adapter lora/adapter --to kohya --out kohya.safetensors
generate: generate 'a bright ring' 'disc on grey AND retina:0.5' --seed 7 {DRAW} --out made
generate-adapter: generate 'a <disc> ring' --adapter kohya.safetensors:0.8 --adapter words/disc/adapter
  --negative disc --image real/01.png --format jpeg {DRAW} --out adapted
interpolate: interpolate 'a bright ring' 'a bright disc' --frames 3 --size 128 {DRAW} --out between
inpaint: inpaint real/01.png --prompt 'a bright ring' --ellipse 0.5,0.5,0.3,0.2,30 {DRAW} --out painted
synthesize: synthesize twelve.parquet --guard pairs.parquet --attempts 2 --chunk 5 --dtype float32
  --out set
synthesize-tar: synthesize plan.csv --model scratch/generator --store webdataset --format dicom --bits 16
  --dtype float32 --out tar
pairs-again: pairs real tar --split none --out both.parquet
evaluate: evaluate --real pairs.parquet --synthetic set --model scratch/generator --replicates 20
  --extractors efficientnet-lite0 --only fidelity,alignment,privacy,membership,cost --samples 2
  --out evidence
utility: utility --real pairs.parquet --synthetic set --arms real,augmented,mixed,minority --ratios 0.5
  --backbone efficientnet-lite0 --seeds 2 --steps 40 --batch 8 --views 2 --replicates 50 --samples 2
  --out use
augment-dry-run: augment pairs.parquet --dry-run {JUDGE} --out never
augment: augment pairs.parquet --images-seen 8 --per-class 2 --steps 2 --seeds 2 --arms real,mixed
  --ratios 0.5 --classifier-steps 30 --samples 1 {JUDGE} optimisation.precision=float32
  optimisation.validation_size=4 size=64 --out way
""")
WORDS = {name: shlex.split(line) for name, line in COMMANDS.items()}
NEEDS = {  # a word of a command -> the modules and converted weights without which it is left out
    "scratch": ("lpips-vgg.safetensors",),
    "dicom": ("pydicom",),
    "efficientnet-lite0": ("timm", "sklearn", "efficientnet-lite0.safetensors"),
    "way": ("lpips-vgg.safetensors",),
}
SKIP = {  # files that are not looked at
    "info": "^<",  # what it says is of the machine
    "generate-adapter": "contact-sheet",  # the adapters' hashes are painted on it, see `mask`
    "augment": "^way/(set/contact-sheet|features/)",  # features are named by the images' hashes
}
MASKS = [
    (r'("(?:\w*seconds\w*|img_per_sec)": )[\d.e-]+', r"\1TIME"),
    (r'(fingerprint": "|, content <code>)[0-9a-f]{64}', r"\1HASH"),  # of files' times, too
    (r'("sha256": "|<td><code>)[0-9a-f]{16,64}', r"\1HASH"),  # of hashes: files' own are known
    (r"\b\d{4}-\d\d-\d\d(?:[T ][\d:.]+(?:Z|[+-][\d:]+)?)?", "DATE"),
    (r"(?<![\d.])\d+\.\d+\.\d+(?:[.+]?(?:dev|post|rc|cpu|cu)\w*)?(?![\d.])", "VERSION"),
    (r"\d[\d.,]* ?(?:img/s|s/img|ms\b|s\b|seconds?\b|minutes?\b|hours?\b)", "TIME"),
    (r"(?:\d+:\d\d(?::\d\d)?|-:--:--)(?=\s|$)", "TIME"),
]
SPANS = re.compile(  # in which every number is masked
    r'"metric": "(?:seconds|joules)_per_image".*?\}|"seconds": \{.*?\}|"runs": \[.*?\]|<dt>Seconds</dt>.*?</dd>'
    r'|aria-label="Seconds of each step".*?</table>|<th[^>]*>[^<]*econds an image.*?</tr>',
    re.DOTALL,
)


def mask(text: str, root: Path, known: dict[str, str]) -> str:
    """The text without what may differ between two runs of the same code.

    A hash of a file that a command has written becomes that file's path: the file is looked at
    itself. safetensors writes its metadata in an order drawn at random, so that the hash of an
    adapter's file, which stands in the provenance of images, is another each time, and theirs too.
    """
    for path, name in ((root, "WORK"), (CODE, "CODE"), (Path(sys.prefix), "PYTHON")):
        text = text.replace(str(path), name)
    text = re.sub(r"data:image/\w+;base64,[\w+/=]+", lambda m: f"picture {digest(m[0])}", text)
    text = re.sub(r"\b[0-9a-f]{16,64}\b", lambda m: known.get(m[0], m[0]), text)
    text = SPANS.sub(lambda m: re.sub(r"\d[\d.,]*", "TIME", m[0]), text)
    for pattern, instead in MASKS:
        text = re.sub(pattern, instead, text)
    return text


def digest(content: str | bytes) -> str:
    """16 hex digits, which no command would write of the same content."""
    data = content.encode() if isinstance(content, str) else content
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def describe(name: str, data: bytes) -> Iterator[str]:
    """What counts of a file, as texts that are not masked yet."""
    kind = Path(name).suffix
    if kind in (".png", ".jpg", ".gif"):
        with Image.open(io.BytesIO(data)) as image:
            yield f"{image.format} {image.mode} {image.size}"
            yield from (f"{key}: {value!r}" for key, value in sorted(image.info.items()))
            for frame in ImageSequence.Iterator(image):
                yield f"pixels {digest(frame.tobytes())}"
    elif kind == ".safetensors":
        (length,) = struct.unpack("<Q", data[:8])
        header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
        yield from (
            f"{key}: {text}" for key, text in sorted(header.pop("__metadata__", {}).items())
        )
        for key, about in sorted(header.items()):
            start, end = about["data_offsets"]
            yield f"{key} {about['dtype']} {about['shape']} {digest(body[start:end])}"
    elif kind == ".parquet":
        found = pq.read_table(io.BytesIO(data))
        yield f"{found.num_rows} rows, metadata {found.schema.metadata}"
        for key in found.column_names:
            cells = found[key].to_pylist()
            shown = [digest(cell["bytes"]) if isinstance(cell, dict) else cell for cell in cells]
            yield f"{key} {found.schema.field(key).type}: {shown}"
    elif kind == ".tar":
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                yield f"{member.name} {member.mtime} {member.mode:o}"
                content = tar.extractfile(member)
                yield from describe(member.name, content.read() if content else b"")
    else:
        try:
            yield data.decode()
        except UnicodeDecodeError:
            yield f"bytes {digest(data)}"


def draw_input(root: Path) -> None:
    """Discs and rings, two images a patient, a near-copy under another patient, a torn file."""
    folder, rng = root / "real", np.random.default_rng(0)
    folder.mkdir(parents=True)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    rows = [["file_name", "label", "patient_id", "sex"]]
    for k in range(DISCS + RINGS):
        name, label = f"{k:02}.{'png' if k % 4 else 'jpg'}", "disc" if k < DISCS else "ring"
        left, top, radius = rng.uniform([-0.15, -0.15, 0.15], [0.15, 0.15, 0.3])
        away = np.hypot(x - left, y - top) - radius
        shape = (away < 0 if label == "disc" else abs(away) < 0.06)[..., None]
        pixels = rng.normal(70, 12, (SIDE, SIDE, 3)) + shape * rng.uniform(60, 120, 3)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
        rows.append([name, label, f"p{k // 2:02}", "F" if k // 2 % 2 else "M"])
    with Image.open(folder / "01.png") as image:
        image.point(lambda level: level * 0.9 + 8).save(folder / "copy.png")
    (folder / "torn.png").write_bytes((folder / "02.png").read_bytes()[:500])
    rows += [["copy.png", "disc", "p90", "M"], ["torn.png", "disc", "p91", "M"]]
    (folder / "metadata.csv").write_text("".join(",".join(row) + "\n" for row in rows))
    (root / "words.yaml").write_text(
        '"*": {group: patient_id, symmetry: square, words: {sex: {F: woman, M: man}},'
        ' templates: ["a bright {label}[, {sex}]", "{label} on grey"]}\n'
    )
    for part in ("tokenizer", "text_encoder"):  # in one folder, as text encoders are published
        shutil.copytree(MINI / part, root / "text", dirs_exist_ok=True)


def reads(name: str) -> set[str]:
    """The commands whose results a command reads: those whose --out is among its words."""
    heads = {re.split("[/:]", word)[0] for word in WORDS[name]}
    made = {words[-1]: other for other, words in WORDS.items() if "--out" in words}
    return {made[head] for head in heads & made.keys()} - {name}


def obstacle(name: str, done: dict[str, Any]) -> str:
    """Why a command cannot be run here; nothing where it can."""
    for need in [need for word in WORDS[name] for need in NEEDS.get(word, ())]:
        if not ((WEIGHTS / need).is_file() if need.endswith(".safetensors") else find_spec(need)):
            return f"{need} is missing"
    failed = [other for other in sorted(reads(name)) if done[other].get("exit") != 0]
    return f"it reads what {failed[0]} did not make" if failed else ""


def run(
    name: str, root: Path, env: dict[str, str], known: dict[str, str], keep: Path | None
) -> dict[str, Any]:
    """Exit code, seconds, and the hash of each file that a command wrote, by its path."""
    began, used = time.time_ns(), sum(os.times()[2:4])  # of all children
    command = [sys.executable, "-m", "vesalius", *WORDS[name]]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, timeout=1800)
    seconds, used = round((time.time_ns() - began) / 1e9, 1), round(sum(os.times()[2:4]) - used, 1)
    written: dict[str, bytes] = {"<stdout>": done.stdout, "<stderr>": done.stderr}
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.stat().st_ctime_ns > began:  # copies keep the other time
            file = path.relative_to(root).as_posix()
            data = written[file] = path.read_bytes()
            sha256, sha1 = hashlib.sha256(data).hexdigest(), hashlib.sha1(data).hexdigest()
            known |= dict.fromkeys((sha256, sha256[:16], sha1), f"HASH of {file}")
    files = {}
    for file, data in written.items():
        if re.search(SKIP.get(name, "^$"), file):
            continue
        text = mask("\n".join(describe(file, data)), root, known)
        files[file] = digest(text)
        if keep:
            (keep / files[file]).write_text(text)
    return {"exit": done.returncode, "seconds": seconds, "cpu_seconds": used, "files": files}


def record(only: list[str], keep: Path | None) -> dict[str, Any]:
    """Run the commands, and those that they read from, in a folder of their own."""
    wanted, done, known = set(only or COMMANDS), {}, {}
    for name in reversed(COMMANDS):
        wanted |= reads(name) if name in wanted else set()
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="net-") as folder:
        root = Path(folder).resolve() / "work"
        draw_input(root)
        code = [os.environ.get("PYTHONPATH"), str(CODE / "src")]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, code)), "COLUMNS": "100"}
        env |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        env |= {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "VESALIUS_WEIGHTS": str(WEIGHTS)}
        env |= {"HOME": f"{folder}/home"}  # where the guard keeps what it has read
        for name in filter(wanted.__contains__, COMMANDS):
            why = obstacle(name, done)
            done[name] = {"skipped": why} if why else run(name, root, env, known, keep)
            print(name, *(f"{k} {v}" for k, v in done[name].items() if k != "files"), flush=True)
    versions = {name: version(name) for name in ("torch", "diffusers", "transformers", "numpy")}
    return {"hardware": hardware(), "versions": versions, "commands": done}


def where(old: str, new: str, keep: Path | None) -> str:
    """The first line in which two texts differ, from shortly before the first letter that does."""
    if not keep or not all((keep / name).is_file() for name in (old, new)):
        return ""
    texts = [(keep / name).read_text().splitlines() for name in (old, new)]
    for number, (a, b) in enumerate(zip_longest(*texts, fillvalue=""), start=1):
        if a != b:
            same = next((k for k, (c, d) in enumerate(zip_longest(a, b)) if c != d), 0)
            first, last = max(0, same - 60), same + 100
            return f"\n    line {number}\n    - {a[first:last]}\n    + {b[first:last]}"
    return ""


def compare(old: dict[str, Any], new: dict[str, Any], keep: Path | None) -> int:
    """Print the times and what is not as it was; return how many things that are."""
    found, rows = [], [["command", "seconds before", "now", "of CPU before", "now"]]
    for name in {**old["commands"], **new["commands"]}:
        before, now = (net["commands"].get(name, {"skipped": "not run"}) for net in (old, new))
        codes = [one.get("skipped", f"exit code {one.get('exit')}") for one in (before, now)]
        if codes[0] != codes[1]:
            found.append(f"{name}: {codes[0]}, now {codes[1]}")
        was, files = before.get("files", {}), now.get("files", {})
        for file in sorted({*was, *files}):
            if file not in was or file not in files:
                found.append(f"{name}: {file} is {'new' if file in files else 'missing'}")
            elif was[file] != files[file]:
                found.append(f"{name}: {file} differs{where(was[file], files[file], keep)}")
        seconds = [one.get(key) for key in ("seconds", "cpu_seconds") for one in (before, now)]
        rows.append([name, *seconds])
    table(rows)
    for key in ("hardware", "versions"):
        if old[key] != new[key]:
            print(f"other {key}, so that figures may differ: {old[key]}, now {new[key]}")
    print(*found or ["nothing differs"], sep="\n")
    return len(found)


def main() -> int:
    """Exit code 1: something differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("do", choices=["record", "compare"])
    parser.add_argument("nets", type=Path, nargs="*", metavar="NET.json")
    parser.add_argument("--out", type=Path, help="the file that record writes")
    parser.add_argument("--keep", type=Path, help="folder of masked texts, to tell lines")
    parser.add_argument("--only", nargs="+", default=[], choices=COMMANDS, metavar="NAME")
    args = parser.parse_args()
    recording = args.do == "record"
    if bool(args.out) != recording or len(args.nets) not in ((0,) if recording else (1, 2)):
        parser.error("give record --out NET.json, or compare NET.json")
    if recording:
        args.out.write_text(json.dumps(record(args.only, args.keep), indent=1) + "\n")
        return 0
    old, *others = [json.loads(path.read_text()) for path in args.nets]
    new = others[0] if others else record(args.only or list(old["commands"]), args.keep)
    if args.only:
        old["commands"] = {name: old["commands"].get(name, {}) for name in new["commands"]}
    return 1 if compare(old, new, args.keep) else 0


if __name__ == "__main__":
    sys.exit(main())
