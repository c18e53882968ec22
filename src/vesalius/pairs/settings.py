"""Everything that decides what is in a pairs table, but its sources."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from vesalius.core.settings import Help
from vesalius.errors import VesaliusError

READING, SPLITS, SHEET = "What is read", "Splits and duplicates", "Datasheet"
PRIVACY = "Identities"
_USUAL = "a usual name"


@dataclass(frozen=True)
class ReaderOptions:
    """Options of all readers; each takes the ones that concern it.

    Column names are None where the reader should recognise the usual ones by itself. A label column may
    be several, "Edema,Effusion", each saying whether that finding is there. `exclude` holds glob patterns
    of keys, `window` is explained in `images.pixels.parse_window`, `slices` in `readers.slices`.
    """

    image_column: Annotated[
        str | None, Help("Column of the images or their paths.", panel=READING, unset=_USUAL)
    ] = None
    caption_column: Annotated[
        str | None, Help("Column of the captions or reports.", panel=READING, unset=_USUAL)
    ] = None
    label_column: Annotated[
        str | None, Help("Column of the labels.", panel=READING, unset=_USUAL)
    ] = None
    group_column: Annotated[
        str | None, Help("Column of the patient or lesion.", panel=READING, unset=_USUAL)
    ] = None
    split_column: Annotated[
        str | None, Help("Column of the source's own split.", panel=READING, unset=_USUAL)
    ] = None
    group_pattern: Annotated[
        str | None,
        Help(
            "Regular expression that finds the patient in a file's path, as in patient\\d+.",
            panel=READING,
        ),
    ] = None
    exclude: Annotated[
        tuple[str, ...], Help("Leave out files like this, as in *_mask*.", panel=READING)
    ] = ()
    window: Annotated[
        str,
        Help(
            "Grey values shown of deep images: auto, full, LOW..HIGH, or of CT lung, mediastinum, "
            "abdomen, brain, subdural, stroke, bone.",
            panel=READING,
        ),
    ] = "auto"
    bits: Annotated[
        int, Help("Bits a channel: 8, or 16 for images that have more.", panel=READING)
    ] = 8
    rows_are: Annotated[
        Literal["auto", "boxes", "images"],
        Help(
            "Several rows of one image in a table: boxes of it, or separate images.", panel=READING
        ),
    ] = "auto"
    slices: Annotated[
        str,
        Help("Of volumes and series: all, middle, middle:N, every:N or FROM..TO.", panel=READING),
    ] = "all"
    plane: Annotated[str, Help("Of volumes: axial, coronal or sagittal.", panel=READING)] = "axial"
    series: Annotated[
        str | None,
        Help("Only DICOM series whose name holds this; list shows the names.", panel=READING),
    ] = None

    def __post_init__(self) -> None:
        if self.bits not in (8, 16):
            raise VesaliusError(f"bits {self.bits}: images are stored with 8 or 16")
        if self.rows_are not in ("auto", "boxes", "images"):
            raise VesaliusError(f"rows_are {self.rows_are!r}: choose one of auto, boxes, images")


@dataclass(frozen=True)
class PairsSettings:
    """Everything that decides what is in a pairs table, but its sources."""

    reader: Annotated[
        str,
        Help(
            "auto, folders, metadata, text, parquet, datasets, webdataset, dicom, volumes or "
            "prostate.",
            panel=READING,
        ),
    ] = "auto"
    captions: Annotated[
        str | None,
        Help(
            "Prompt dictionary: a bundled name or a .yaml file.",
            unset="the source's captions, else its labels",
        ),
    ] = None
    split: Annotated[
        str,
        Help(
            "auto (the source's own, else val=0.1), own, none, or as val=0.1,test=0.2.",
            panel=SPLITS,
        ),
    ] = "auto"
    test: tuple[str, ...] = ()  # sha1 or key of rows that lie in test, see `divide`
    stratify: Annotated[bool, Help("Draw the splits label by label.", panel=SPLITS)] = True
    folds: Annotated[
        int, Help("Add a column `fold` with this many folds.", least=0, panel=SPLITS)
    ] = 0
    shots: Annotated[
        int, Help("Keep only this many images of a label in train.", least=0, panel=SPLITS)
    ] = 0
    fraction: Annotated[
        float, Help("Keep only this part of the groups in train.", least=0, most=1, panel=SPLITS)
    ] = 1
    duplicates: Annotated[
        Literal["group", "keep", "drop"],
        Help("Near-duplicates: keep in one part of the split, leave, or drop.", panel=SPLITS),
    ] = "group"
    copy_detector: Annotated[
        str | None,
        Help(
            "Also find edited copies by this network: an .onnx file, or sscd.",
            panel=SPLITS,
            unset="perceptual hash only",
        ),
    ] = None
    alike: float = 0.85  # cosine similarity of two embeddings, to call the images copies
    seed: Annotated[int, Help("Chooses the groups of each split.", panel=SPLITS)] = 0
    deidentify: Annotated[
        bool | None,
        Help(
            "Remove what leads to a patient from attributes, captions and file names, and hash "
            "groups.",
            flags=("--deidentify/--no-deidentify",),
            panel=PRIVACY,
            unset="on for DICOM",
        ),
    ] = None
    identity_key: Annotated[
        str | None,
        Help(
            "File of the key that groups are hashed with, written if there is none: tables that "
            "share it can be joined.",
            panel=PRIVACY,
            unset="a random key that nobody keeps",
        ),
    ] = None
    text_encoder: Annotated[
        str,
        Help("Whose token budget is checked: a bundled name, a folder, or none.", panel=SHEET),
    ] = "mini"
    reading: ReaderOptions = field(default_factory=ReaderOptions)

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise VesaliusError(f"fraction {self.fraction:g}: take one above 0 and at most 1")
        if self.folds == 1 or min(self.folds, self.shots) < 0:
            raise VesaliusError("folds are 2 or more, shots 1 or more; 0 is for none")
        if self.identity_key is not None and self.deidentify is False:
            raise VesaliusError("--identity-key is for hashed groups: leave out --no-deidentify")
        if self.duplicates not in ("group", "keep", "drop"):
            raise VesaliusError(f"duplicates {self.duplicates!r}: choose one of group, keep, drop")
