"""Tables as people have them: a third state, lists as text, a row a box, tables below the top."""

import json

import numpy as np
import pytest
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.pairs.readers import ReaderOptions, sources
from vesalius.pairs.splits import normalise_split


def draw(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def table_of(folder, header, rows, name="table.csv"):
    """A table of images img0.png, ... with the cells of each row behind the image's name."""
    lines = [header]
    for number, cells in enumerate(rows):
        draw(folder / f"img{number}.png", number)
        lines.append(f"img{number}.png,{cells}")
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def read(path, **options):
    notes = []
    found = [
        item
        for source in sources(str(path))
        for item in source.items(ReaderOptions(**options), notes.append)
    ]
    return found, notes


FINDINGS = "Path,No Finding,Edema,Effusion"


@pytest.mark.parametrize(
    ("cells", "label", "uncertain"),
    [
        (",1.0,", "Edema", None),
        (",1.0,1.0", "Edema|Effusion", None),
        (",-1.0,1.0", "Effusion", "Edema"),
        (",-1.0,", None, "Edema"),
        (",-1.0,0.0", None, "Edema"),
        (",,", None, None),
        (",0.0,", None, None),
        (",0.0,0.0", "No Finding", None),
        ("1.0,,", "No Finding", None),
        ("1.0,1.0,", "Edema", None),
    ],
)
def test_what_is_uncertain_or_not_mentioned_is_never_a_no(tmp_path, cells, label, uncertain):
    table = table_of(tmp_path, FINDINGS, [cells])
    (item,), _ = read(table, image_column="Path", label_column="Edema,Effusion")
    assert item.label == label
    assert item.attributes.get("uncertain") == uncertain


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        ("\"['normal']\"", "normal"),
        ("\"['pleural effusion', ' cardiomegaly']\"", "cardiomegaly|pleural effusion"),
        ("\"['cardiomegaly', 'pleural effusion']\"", "cardiomegaly|pleural effusion"),
        ("\"['pleural effusion' 'cardiomegaly']\"", "cardiomegaly|pleural effusion"),
        ('"[""b"", ""a""]"', "a|b"),
        ("[]", None),
        ("b | a", "a|b"),
        ("a|a", "a"),
        ("No Finding|b", "b"),
    ],
)
def test_lists_as_text_are_lists_and_their_order_makes_no_class(tmp_path, cell, label):
    (item,), _ = read(table_of(tmp_path, "image,label", [cell]))
    assert item.label == label


def test_a_target_list_is_named_by_the_columns_that_say_the_same(tmp_path):
    rows = ['1,0,0,"[1, 0, 0]"', '0,1,1,"[0, 1, 1]"', '0,0,0,"[0, 0, 0]"']
    found, _ = read(table_of(tmp_path, "image,N,D,G,target", rows))
    assert [item.label for item in found] == ["N", "D|G", None]


def test_a_column_a_class_is_a_label_where_each_row_marks_one(tmp_path):
    rows = ["1.0,0.0,0.0,F", "0.0,1.0,0.0,M", "0.0,0.0,1.0,F"]
    found, notes = read(table_of(tmp_path, "image,MEL,NV,BCC,sex", rows))
    assert [item.label for item in found] == ["MEL", "NV", "BCC"]
    assert "MEL, NV, BCC" in notes[0]


def test_columns_that_are_not_one_in_each_row_are_attributes(tmp_path):
    found, _ = read(table_of(tmp_path, "image,smoker,diabetic", ["1,1", "0,0", "1,0"]))
    assert [item.label for item in found] == [None] * 3


BOXES = "image,x,Target,patient_id\na.png,,0,p1\nb.png,1,1,p2\nb.png,2,1,p2\nb.png,3,1,p2\n"


def test_a_row_a_box_is_an_image_once(tmp_path):
    for name in "ab":
        draw(tmp_path / f"{name}.png")
    (tmp_path / "rsna.csv").write_text(BOXES)
    found, notes = read(tmp_path)
    assert [(item.key, item.label, item.group) for item in found] == [
        ("a.png", "0", "p1"),
        ("b.png", "1", "p2"),
    ]
    assert "x" not in found[1].attributes  # the boxes differ
    assert "3 rows of rsna.csv are of 1 images" in notes[0]
    apart, _ = read(tmp_path, rows_are="images")
    assert [item.key for item in apart] == ["a.png", "b.png", "b.png@4", "b.png@5"]


def test_readers_labels_are_united_and_normal_gives_way(tmp_path):
    draw(tmp_path / "a.png")
    text = "image,class\na.png,No finding\na.png,Effusion\na.png,Cardiomegaly\n"
    (tmp_path / "t.csv").write_text(text)
    (item,), _ = read(tmp_path)
    assert item.label == "Cardiomegaly|Effusion"


def test_captions_that_differ_keep_the_rows_apart(tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("image,caption\na.png,one\na.png,two\n")
    found, notes = read(tmp_path)
    assert [item.caption for item in found] == ["one", "two"]
    assert "captions that differ" in notes[0]
    assert "boxes" not in notes[0]  # two reports
    (item,), _ = read(tmp_path, rows_are="boxes")
    assert item.caption == "one"


def test_rows_that_differ_in_label_and_caption_may_be_boxes(tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("image,caption,label\na.png,one,x\na.png,two,y\n")
    _, notes = read(tmp_path)
    assert "--rows-are boxes unites them" in notes[0]


def test_an_image_of_two_patients_is_skipped(tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("image,label,patient_id\na.png,x,p1\na.png,x,p2\n")
    (item,), _ = read(tmp_path)
    assert "several patients" in item.reason


def test_tables_below_the_top_are_read_with_their_folder_s_split(tmp_path):
    for split, kind in (("train", "jsonl"), ("test", "csv")):
        for number in range(2):
            draw(tmp_path / split / f"{number}.png", number)
        rows = [{"file_name": f"{n}.png", "text": f"{split} {n}"} for n in range(2)]
        if kind == "jsonl":
            text = "\n".join(map(json.dumps, rows))
        else:
            text = "file_name,text\n" + "\n".join(",".join(row.values()) for row in rows)
        (tmp_path / split / f"metadata.{kind}").write_text(text + "\n")
    found, _ = read(tmp_path)
    assert [(item.key, item.caption, item.split) for item in found] == [
        ("test/0.png", "test 0", "test"),
        ("test/1.png", "test 1", "test"),
        ("train/0.png", "train 0", "train"),
        ("train/1.png", "train 1", "train"),
    ]


def test_one_table_far_below_is_found_and_two_in_a_folder_are_refused(tmp_path):
    draw(tmp_path / "deep" / "er" / "img0.png")
    table_of(tmp_path / "deep" / "er", "image,label", ["x"], "labels.csv")
    (item,), _ = read(tmp_path)
    assert (item.key, item.label) == ("deep/er/img0.png", "x")
    for name in ("metadata.csv", "metadata.tsv"):
        (tmp_path / "deep" / "er" / name).write_text("image\timage2\n")
    with pytest.raises(VesaliusError, match="several metadata tables in one folder"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["ID", "study", "Lesion", "eye_id", "Case ID"])
def test_a_column_that_may_name_the_patient_is_offered(tmp_path, name):
    found, notes = read(table_of(tmp_path, f"image,label,{name}", ["x,1", "x,1", "x,2"]))
    assert f"--group-column '{name}'" in notes[0]
    assert [item.group for item in found] == [None] * 3
    _, notes = read(table_of(tmp_path, f"image,label,{name}", ["x,1", "x,2", "x,3"]))
    assert notes == []  # it names the images


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("IM0.PNG", "im0.png"),
        ("im0.png", "im0.dcm"),
        ("im0.png", "IM0"),
        ("sub/im0.png", "sub/im0.dicom"),
        ("1.2.840.1.png", "1.2.840.1"),
        ("files/p10/s5/im0.jpg", "im0"),
    ],
)
def test_a_file_is_found_in_other_case_and_with_another_suffix(tmp_path, name, cell):
    draw(tmp_path / name)
    (tmp_path / "t.csv").write_text(f"image,label\n{cell},x\n")
    (item,), _ = read(tmp_path)
    assert (item.key, item.label) == (name, "x")


def test_two_files_that_could_be_meant_are_not_guessed(tmp_path):
    for name in ("im0.png", "im0.jpg"):
        draw(tmp_path / name)
    (tmp_path / "t.csv").write_text("image,label\nim0.dcm,x\n")
    (item,), _ = read(tmp_path)
    assert item.reason == "several files of this name"


@pytest.mark.parametrize(
    "column", ["id_code", "image_name", "isic_id", "dicom_id", "ImageID", "Image Index", "filepath"]
)
def test_columns_of_well_known_sets_hold_the_images(tmp_path, column):
    draw(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text(f"{column},diagnosis\na,x\n")
    (item,), _ = read(tmp_path)
    assert (item.key, item.label) == ("a.png", "x")


@pytest.mark.parametrize(
    ("image", "caption"), [("img_savename", "prompt"), ("synthetic_filename", "annotated_prompt")]
)
@pytest.mark.parametrize(
    ("cell", "label"),
    [
        ("{'Edema': 1, 'No Finding': 0}", "Edema"),
        ('{"Edema": 0, "Mass": null, "No Finding": 1}', "No Finding"),
        ('{"Edema": null, "Mass": null}', None),
        ("{'Mass': 1.0, 'Edema': 1.0, 'No Finding': 0.0}", "Edema|Mass"),
        ("{'Edema': 0, 'Mass': 0}", "No Finding"),
        ("{'Edema': 1, 'Mass': nan}", "Edema"),
    ],
)
def test_folders_of_generated_images_with_findings_in_one_cell(
    tmp_path, image, caption, cell, label
):
    draw(tmp_path / "a.png")
    quoted = cell.replace('"', '""')
    (tmp_path / "t.csv").write_text(f'{image},{caption},labels_dict\na.png,stable,"{quoted}"\n')
    (item,), _ = read(tmp_path)
    assert (item.label, item.caption) == (label, "stable")


@pytest.mark.parametrize("name", ["a.png", "assets/generated/a.png"])
def test_a_table_in_a_folder_of_its_own_names_images_of_the_folder_beside_it(tmp_path, name):
    draw(tmp_path / "generated" / "a.png")
    (tmp_path / "CSV").mkdir()
    (tmp_path / "CSV" / "prompt_INFO.csv").write_text(f"prompt,img_savename\nstable,{name}\n")
    (item,), _ = read(tmp_path)
    assert (item.key, item.caption) == ("generated/a.png", "stable")


@pytest.mark.parametrize("name", ["labels.xlsx", "annotations.json", "set.xml"])
def test_a_table_that_is_not_read_is_named(tmp_path, name):
    draw(tmp_path / "a.png")
    (tmp_path / name).write_bytes(b"PK")
    _, notes = read(tmp_path)
    assert name in notes[0]


@pytest.mark.parametrize("name", ["a.zip", "a.npz", "a.h5", "a.xlsx", "a.svs"])
def test_what_cannot_be_read_as_it_is_says_what_to_do(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(VesaliusError, match=r"as it is: (unzip|save|write|cut)"):
        sources(str(tmp_path / name))


def test_columns_of_public_tables_are_known(tmp_path):
    for number, (header, cells, label) in enumerate([
        ("Path,class_name,class_id", "Cardiomegaly,3", "Cardiomegaly"),  # VinDr-CXR
        ("img_id,diagnostic,region", "NEV,ARM", "NEV"),  # PAD-UFES-20
        ("image file path,assessment,pathology", "4,MALIGNANT", "MALIGNANT"),  # CBIS-DDSM
        ("image_id,breast_birads,finding_categories", "3,['Mass']", "Mass"),  # VinDr-Mammo
    ]):  # fmt: skip
        (item,), _ = read(table_of(tmp_path / str(number), header, [cells]))
        assert item.label == label


def test_an_age_as_dicom_writes_it_is_a_number_of_years(tmp_path):
    table = table_of(tmp_path, "Image Index,Patient Age,dx", ["058Y,a", "018M,a", "60,a", "90+,a"])
    assert [item.attributes["age"] for item in read(table)[0]] == ["58", "1", "60", "90+"]


def test_a_side_of_the_breast_is_no_eye(tmp_path):
    (item,), _ = read(table_of(tmp_path, "image_id,laterality,dx", ["L,a"]))
    assert item.attributes == {"laterality": "L"}


def test_columns_that_may_be_findings_are_offered_and_not_taken(tmp_path):
    rows = [",1.0,-1.0,40", "1.0,,,50", ",0.0,1.0,60"]
    (item, *_), notes = read(table_of(tmp_path, f"{FINDINGS},age", rows))
    assert item.label is None
    assert any("--label-column 'No Finding,Edema,Effusion'" in note for note in notes)


def test_a_split_called_validate_is_known(tmp_path):
    source = sources(str(table_of(tmp_path, "image,split,dx", ["validate,a"])))[0]
    assert normalise_split(next(iter(source.items(ReaderOptions()))).split) == "val"


def test_a_packed_table_is_not_taken_for_no_table(tmp_path):
    draw(tmp_path / "files" / "s1" / "a.png")
    (tmp_path / "mimic-cxr-2.0.0-split.csv.gz").write_bytes(b"x")
    for path in (tmp_path, tmp_path / "mimic-cxr-2.0.0-split.csv.gz"):
        with pytest.raises(VesaliusError, match="gunzip"):
            sources(str(path))
    assert sources(str(tmp_path), "folders")


@pytest.mark.parametrize(
    ("name", "called"),
    [("mimic-cxr-2.0.0-split.csv", "mimic-cxr-2.0.0-split"), ("a.tar.gz", "a"), ("1.2.840", "1.2.840")],
)  # fmt: skip
def test_a_source_is_called_by_its_whole_name(tmp_path, name, called):
    (tmp_path / name).write_bytes(b"x")
    assert sources(str(tmp_path / name), "folders")[0].name == called


@pytest.mark.parametrize("cell", ["NA", "n/a", "unknown", "Unknown", "-1", "?", ""])
def test_images_of_unknown_patients_are_not_of_one(tmp_path, cell):
    table = table_of(tmp_path, "image,dx,patient_id", [f"a,{cell}", f"b,{cell}", "a,0", "b,17"])
    assert [item.group for item in read(table)[0]] == [None, None, "0", "17"]


def test_a_row_without_its_class_is_no_normal_one(tmp_path, monkeypatch):
    monkeypatch.setattr("vesalius.pairs.readers.metadata._SAMPLE", 3)
    table = table_of(tmp_path, "image,MEL,NV", ["1.0,0.0", "0.0,1.0", "1.0,0.0", "0.0,0.0"])
    assert [item.label for item in read(table)[0]] == ["MEL", "NV", "MEL", None]
