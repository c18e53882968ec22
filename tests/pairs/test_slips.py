"""Words that would go missing from captions without anybody noticing are said."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from tests.pairs.test_build import picture

from vesalius.errors import VesaliusError
from vesalius.pairs.build import build_pairs
from vesalius.pairs.settings import PairsSettings
from vesalius.pairs.slips import fuller_captions
from vesalius.pairs.table import read_pairs

README = Path(__file__).resolve().parents[2] / "README.md"


def table_source(folder, header, rows):
    folder.mkdir(parents=True)
    lines = [f"image,{header}"]
    for number, cells in enumerate(rows):
        picture(number).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{cells}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def built(tmp_path, source, entry):
    (tmp_path / "words.yaml").write_text(yaml.safe_dump({source.name: entry}))
    settings = PairsSettings(captions=str(tmp_path / "words.yaml"))
    sheet = build_pairs([str(source)], tmp_path / "out.parquet", settings).datasheet
    return read_pairs(tmp_path / "out.parquet").column("caption"), sheet["warnings"]


def test_columns_are_known_whatever_their_case(tmp_path):
    source = table_source(tmp_path / "eyes", "label,Eye", ["a,left", "b,right"])
    captions, warnings = built(tmp_path, source, {"templates": ["{label}[, {eye} eye]"]})
    assert captions == ["a, left eye", "b, right eye"]
    assert not any("no image has" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("clause", "message"),
    [
        ("{patient_agee}", "no image has 'patient_agee'.*is 'Patient Age2' meant"),
        ("{scanner}", "no image has scanner: what its captions would say of that is left out"),
    ],
)
def test_a_name_that_no_row_has_is_said_with_the_nearest(tmp_path, clause, message):
    source = table_source(tmp_path / "eyes", "label,Patient Age2", ["a,60", "b,70"])
    _, warnings = built(tmp_path, source, {"templates": [f"{{label}}[, {clause}]"]})
    assert any(re.search(message, warning) for warning in warnings)


def test_a_source_without_an_entry_is_told_which_would_fit(tmp_path):
    for number, code in enumerate(("nv", "mel", "bcc")):
        (tmp_path / "skin" / code).mkdir(parents=True)
        picture(number).save(tmp_path / "skin" / code / f"{number}.png")
    settings = PairsSettings(captions="medisyn")
    sheet = build_pairs([str(tmp_path / "skin")], tmp_path / "out.parquet", settings).datasheet
    (warning,) = [each for each in sheet["warnings"] if "no entry of this name" in each]
    assert "bcc, mel, nv" in warning
    assert "write dermoscopy=PATH" in warning


def test_the_sources_of_the_readme_have_words_for_their_labels(tmp_path, monkeypatch):
    """The README merges HAM10000 (codes) and APTOS (grades): no caption is a bare code."""
    (command,) = re.findall(r"^vesalius pairs .*--captions medisyn.*$", README.read_text(), re.M)
    labels = {"HAM10000": ("nv", "mel", "bcc"), "APTOS": ("0", "2", "4")}
    for number, (folder, label) in enumerate(
        (folder, label) for folder, names in labels.items() for label in names
    ):
        (tmp_path / folder / label).mkdir(parents=True)
        picture(number).save(tmp_path / folder / label / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    sources = [
        word for word in shlex.split(command) if "=" in word and word.split("=")[1] in labels
    ]
    assert len(sources) == 2
    sheet = build_pairs(sources, "all.parquet", PairsSettings(captions="medisyn")).datasheet
    assert not [each for each in sheet["warnings"] if "entry" in each or "labels" in each]
    captions = read_pairs("all.parquet").column("caption")
    assert not {"nv", "mel", "bcc", "0", "2", "4"} & set(captions)
    assert any("melanoma" in caption for caption in captions)
    assert any("retinopathy" in caption for caption in captions)


EYES = ["glaucoma", "normal", "diabetic_retinopathy"]


def test_a_source_without_an_entry_is_told_the_one_that_fits_its_labels(tmp_path):
    source = table_source(tmp_path / "eyes_csv", "label", EYES)
    settings = PairsSettings(captions="mini")
    with pytest.raises(VesaliusError, match=f"'eyes_csv': write fundus={source}; .* fit fundus$"):
        build_pairs([str(source)], tmp_path / "out.parquet", settings)
    other = table_source(tmp_path / "other", "label", ["a", "b"])
    with pytest.raises(VesaliusError, match=r"it has blood_cells, .*write ENTRY=PATH, or"):
        build_pairs([str(other)], tmp_path / "out.parquet", settings)


def test_captions_that_are_labels_alone_are_told_a_dictionary_that_says_more(tmp_path):
    source = table_source(tmp_path / "eyes", "label", EYES)
    bare = build_pairs([str(source)], tmp_path / "bare.parquet").datasheet
    assert "fundus=PATH --captions mini" in (fuller_captions(bare) or "")
    settings = PairsSettings(captions="mini")
    said = build_pairs([f"fundus={source}"], tmp_path / "said.parquet", settings).datasheet
    assert fuller_captions(said) is None
    other = table_source(tmp_path / "other", "label", ["a", "b"])
    assert fuller_captions(build_pairs([str(other)], tmp_path / "o.parquet").datasheet) is None


def test_captions_are_checked_against_the_window_that_their_dictionary_is_for(tmp_path):
    report = "There is a large left effusion in the lung. " * 12
    source = table_source(tmp_path / "chest", "report", [report, report + "Normal heart."])
    for captions, cut in (("chest-diffusion", False), (None, True)):
        settings = PairsSettings(captions=captions)
        sheet = build_pairs([str(source)], tmp_path / f"{cut}.parquet", settings).datasheet
        assert bool(sheet["tokens"]["cut"]) == cut
        found = " ".join(one["message"] for one in sheet["findings"])
        assert ("--text-encoder NAME, or none" in found) == cut


def test_a_split_far_from_what_was_asked_says_why(tmp_path):
    rows = [f"a,p{number // 4}" for number in range(12)]
    source = table_source(tmp_path / "eyes", "label,patient", rows)
    settings = PairsSettings(split="val=0.2,test=0.2", duplicates="keep")
    warnings = build_pairs([str(source)], tmp_path / "out.parquet", settings).datasheet["warnings"]
    assert "asked 60 % train, 20 % val, 20 % test, drew 33 % train, 33 % val, 33 % test: whole " \
        "patients stay together" in warnings  # fmt: skip


def slips(tmp_path, *keys):
    for number, key in enumerate(keys):
        (tmp_path / "set" / key).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(tmp_path / "set" / key)
    return build_pairs([str(tmp_path / "set")], tmp_path / "out.parquet").datasheet


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("a/patient00{}_{}.png", "patient"),
        ("PNEUMONIA/person{}_virus_{}.png", "person"),
        ("p10/p1000003{}/s{}.png", r"p\d{4,}"),
    ],
)
def test_patients_in_paths_are_offered_as_groups(tmp_path, name, pattern):
    keys = [name.format(patient, image) for patient in range(3) for image in range(2)]
    (said,) = [
        one["message"] for one in slips(tmp_path, *keys)["findings"] if one["kind"] == "groups"
    ]
    assert "hold 3 names such as patients have" in said and pattern in said


def test_folders_that_are_no_classes_are_told(tmp_path):
    deepest = [f"{kind}/p{n}/100X/{n}.png" for kind in ("benign", "malignant") for n in range(2)]
    (said,) = [w for w in slips(tmp_path / "a", *deepest)["warnings"] if "no classes" in w]
    assert "every image lies in a folder '100X'" in said
    studies = [f"s{n}/{image}.png" for n in range(9) for image in range(2)]
    (said,) = [w for w in slips(tmp_path / "b", *studies)["warnings"] if "no classes" in w]
    assert "9 folders of a few images each are taken for labels" in said
    classes = [f"{split}/nv/{n}.png" for split in ("train", "test") for n in range(2)]
    assert not [w for w in slips(tmp_path / "c", *classes)["warnings"] if "no classes" in w]


def test_an_eye_may_be_called_laterality(tmp_path):
    source = table_source(tmp_path / "eyes", "label,laterality", ["a,left", "b,right"])
    captions, _ = built(tmp_path, source, {"templates": ["{label}[, {eye} eye]"]})
    assert captions == ["a, left eye", "b, right eye"]


@pytest.mark.parametrize(
    ("image", "text"),
    [("images/{0}.png", "reports/{0}.txt"), ("p1/s{0}/x{0}.png", "p1/s{0}.txt")],  # of MIMIC-CXR
)
def test_reports_that_lie_elsewhere_are_told(tmp_path, image, text):
    for number in range(4):
        path = tmp_path / "set" / text.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Clear lungs.")
    warnings = slips(tmp_path, *(image.format(number) for number in range(4)))["warnings"]
    assert any("4 texts are called like images or their folders" in warning for warning in warnings)


@pytest.mark.parametrize(
    "mask",
    ["with_GT/benign/a (1)_mask.png", "labelsTr/1.png", "masks/1.png", "p1/p1_frame01_gt.png"],
)
def test_files_called_like_masks_are_told(tmp_path, mask):
    warnings = slips(tmp_path, "with_GT/benign/a (1).png", "with_GT/images/2.png", mask)["warnings"]
    assert any("1 files are called like masks" in warning for warning in warnings)
