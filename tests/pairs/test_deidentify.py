"""No identity that a source holds is found in the table or its datasheet, and groups stay groups."""

import csv
import io
import json
import stat
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from vesalius.errors import VesaliusError
from vesalius.images.dicom_header import identities
from vesalius.pairs.build import PairsSettings, build_pairs
from vesalius.pairs.deidentify import Deidentifier, Pseudonyms, scrub, swept
from vesalius.pairs.settings import ReaderOptions

SPLIT = "val=0.3,test=0.2"
PATIENTS = [f"Ruprecht{number}^Zora{number}" for number in range(8)]
PSEUDONYMS = Pseudonyms(bytes(32))


def pixels(number: int) -> np.ndarray:
    coarse = np.random.default_rng(number).integers(0, 255, (5, 5), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((40, 40), Image.Resampling.BICUBIC))


def planted(patient: int) -> dict[str, str]:
    """What names a patient, by where it stands."""
    return {
        "id": f"PID-{70_000 + patient}",
        "name": PATIENTS[patient],
        "born": f"1931110{patient + 1}",
        "accession": f"ACC98{patient}41",
        "address": f"{patient + 1} Quince Lane",
        "comment": f"seen with Dr Oswin{patient}",
        "hospital": f"Saint Quill {patient}",
    }


def write_dicom(folder: Path) -> list[str]:
    """Two images of each patient in a folder called after the patient, and a damaged file."""
    pydicom = pytest.importorskip("pydicom")
    uid = pydicom.uid
    for patient in range(8):
        who = planted(patient)
        for image in range(2):
            made = pydicom.Dataset()
            made.file_meta = pydicom.dataset.FileMetaDataset()
            made.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
            made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = uid.CTImageStorage
            made.SOPInstanceUID = f"1.2.826.77{patient}.{image}"
            made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
            made.StudyInstanceUID = f"1.2.826.88{patient}"
            made.SeriesInstanceUID = f"1.2.826.99{patient}.{image}"
            made.PatientID, made.PatientName = who["id"], who["name"]
            made.PatientBirthDate, made.AccessionNumber = who["born"], who["accession"]
            made.PatientAddress, made.PatientComments = who["address"], who["comment"]
            made.InstitutionName, made.StudyDate = who["hospital"], f"2019070{patient + 1}"
            made.PatientAge, made.PatientSex = "094Y", "F"
            made.Modality, made.BodyPartExamined = "CT", "CHEST"
            made.SeriesDescription = f"thorax of {who['name']}"
            made.Rows = made.Columns = 40
            made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
            made.BitsAllocated = made.BitsStored = 8
            made.HighBit, made.PixelRepresentation = 7, 0
            made.PixelData = pixels(2 * patient + image).tobytes()
            name = f"{who['name']}_{who['id']}"
            path = folder / name / f"{who['accession']}-2019070{patient + 1}-{image}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            made.save_as(path, enforce_file_format=True)
    (folder / name / f"{who['id']}.dcm").write_bytes(bytes(128) + b"DICM, damaged")
    every = [planted(patient) for patient in range(8)]
    texts = [text for who in every for text in who.values()]
    texts += ["Ruprecht", "Zora", "Quince", "Oswin", "Saint Quill", "thorax of"]
    return [*texts, "1.2.826.88", "1.2.826.99", "1.2.826.77", "2019070"]


def write_table(folder: Path, kind: str) -> list[str]:
    """A CSV that names patients in many columns, beside images that do so inside."""
    folder.mkdir(parents=True)
    rows = []
    for patient in range(8):
        who = planted(patient)
        for image in range(2):
            name = f"{who['id']}_{image}.{kind.lower()}"
            picture, options = Image.fromarray(pixels(2 * patient + image)), {}
            exif = Image.Exif()
            exif[ExifTags.Base.Artist] = who["name"]
            if kind == "PNG":
                texts = PngInfo()
                texts.add_text("Patient", who["name"])
                texts.add_itxt("XML:com.adobe.xmp", who["comment"])
                options = {"pnginfo": texts}
            else:
                options = {"comment": who["name"], "xmp": who["comment"].encode()}
            picture.save(folder / name, kind, exif=exif, **options)
            rows.append({
                "file_name": name, "Patient ID": who["id"], "Patient Name": who["name"],
                "birth_date": who["born"], "MRN": f"MRN55{patient}07", "address": who["address"],
                "AccessionNumber": who["accession"], "study_date": f"2019-07-0{patient + 1}",
                "referring_physician": f"Oswin{patient}", "hospital": who["hospital"],
                "age": 85 + patient, "sex": "F", "dx": "ill" if patient % 2 else "healthy",
                "class_name": "lung", "report": f"{who['name'].split('^')[0]} (MRN55{patient}07), "
                f"95-year-old, seen on 2019-07-0{patient + 1}: no finding.",
            })  # fmt: skip
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    texts = [text for patient in range(8) for text in planted(patient).values()]
    return [*texts, "Ruprecht", "Zora", "Quince", "Oswin", "Saint Quill", "MRN55", "2019-07"]


def write(folder: Path, kind: str) -> list[str]:
    return write_dicom(folder) if kind == "DICOM" else write_table(folder, kind)


def rows(path: Path) -> list[dict]:
    return pq.read_table(path).to_pylist()


def all_bytes(path: Path) -> bytes:
    """The table's bytes, also as it is without compression, and its datasheet in both forms."""
    beside = [path.with_name(f"{path.stem}.datasheet.{kind}") for kind in ("html", "json")]
    plain = io.BytesIO()
    pq.write_table(pq.read_table(path), plain, compression="none", use_dictionary=False)
    return b"".join([plain.getvalue(), *(file.read_bytes() for file in (path, *beside))])


@pytest.mark.parametrize("kind", ["DICOM", "PNG", "JPEG"])
def test_no_identity_is_found_in_anything_that_is_written(tmp_path, kind):
    texts = write(tmp_path / "source", kind)
    out = tmp_path / "pairs.parquet"
    asked = PairsSettings(split=SPLIT, deidentify=None if kind == "DICOM" else True)
    built = build_pairs(
        [str(tmp_path / "source")], out, asked, command=f"vesalius pairs {planted(0)['id']}"
    )
    written = all_bytes(out).lower()
    found = [text for text in texts if text.lower().encode() in written]
    assert found == []
    assert len(rows(out)) == 16 and {row["sex"] for row in rows(out)} == {"F"}
    removed = {one["name"]: one["images"] for one in built.datasheet["privacy"]["removed"]}
    assert removed["ages over 89 set to 90"] >= 6
    assert max(float(row["age"]) for row in rows(out)) == 90
    if kind == "DICOM":
        assert removed["patient_id hashed"] == removed["series_description removed"] == 16
        assert {row["caption"] for row in rows(out)} == {"CHEST CT"}
        assert built.datasheet["skipped"]["count"] == 1
    else:
        assert removed["EXIF removed"] == removed["Patient Name removed"] == 16
        assert {row["class_name"] for row in rows(out)} == {"lung"}
        assert all("90-year-old" in row["caption"] for row in rows(out))


@pytest.mark.parametrize("kind", ["DICOM", "PNG"])
def test_groups_and_splits_are_the_partition_of_before(tmp_path, kind):
    write(tmp_path / "source", kind)
    asked = {on: PairsSettings(split=SPLIT, folds=2, deidentify=on) for on in (True, False)}
    for on, options in asked.items():
        build_pairs([str(tmp_path / "source")], tmp_path / f"{on}.parquet", options)
    hidden, plain = (rows(tmp_path / f"{on}.parquet") for on in (True, False))
    for name in ("split", "fold", "row", "sha1", "label"):
        assert [row[name] for row in hidden] == [row[name] for row in plain]
    pairs = {(row["group"], other["group"]) for row, other in zip(hidden, plain, strict=True)}
    assert len(pairs) == len({row["group"] for row in hidden}) == 8
    assert {row["group"] for row in plain} == {f"source/{planted(n)['id']}" for n in range(8)}
    assert all(row["group"].startswith("source/id-") for row in hidden)


def test_a_key_joins_tables_and_no_key_does_not(tmp_path):
    write(tmp_path / "scans", "DICOM")
    write(tmp_path / "photos", "PNG")
    key = tmp_path / "keys" / "identity.key"
    asked = PairsSettings(identity_key=str(key))
    for name in ("scans", "photos"):
        build_pairs([str(tmp_path / name)], tmp_path / f"{name}.parquet", asked)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    scans = {row["patient_id"] for row in rows(tmp_path / "scans.parquet")}
    assert scans == {row["Patient ID"] for row in rows(tmp_path / "photos.parquet")}
    assert len(scans) == 8
    assert build_pairs([str(tmp_path / "scans")], tmp_path / "scans.parquet", asked).unchanged
    assert key.read_text().strip().encode() not in all_bytes(tmp_path / "scans.parquet")
    # a table that has hashes keeps them
    build_pairs([str(tmp_path / "scans.parquet")], tmp_path / "again.parquet", asked)
    groups = [row["group"] for row in rows(tmp_path / "again.parquet")]
    assert groups == [row["group"] for row in rows(tmp_path / "scans.parquet")]
    build_pairs([str(tmp_path / "scans")], tmp_path / "other.parquet")
    assert not scans & {row["patient_id"] for row in rows(tmp_path / "other.parquet")}
    key.write_text("not a key")
    with pytest.raises(VesaliusError, match="holds no key"):
        build_pairs([str(tmp_path / "scans")], tmp_path / "scans.parquet", asked)


def test_series_are_chosen_and_groups_found_before_anything_is_removed(tmp_path):
    write(tmp_path / "scans", "DICOM")
    write(tmp_path / "photos", "JPEG")
    only = PairsSettings(reading=ReaderOptions(series="thorax of ruprecht3"))
    build_pairs([str(tmp_path / "scans")], tmp_path / "a.parquet", only)
    assert len(rows(tmp_path / "a.parquet")) == 2
    column = PairsSettings(deidentify=True, reading=ReaderOptions(group_column="hospital"))
    build_pairs([str(tmp_path / "photos")], tmp_path / "b.parquet", column)
    assert len({row["hospital"] for row in rows(tmp_path / "b.parquet")}) == 8
    assert b"Saint Quill" not in all_bytes(tmp_path / "b.parquet")


def test_rows_that_are_skipped_name_nobody(tmp_path):
    texts = write(tmp_path / "scans", "DICOM")
    for image in (tmp_path / "scans").rglob("*-1.dcm"):
        image.write_bytes(image.read_bytes().replace(b"CHEST", b"SKULL"))
    (tmp_path / "words.yaml").write_text(
        "scans: {templates: ['{body_part}'], closed: [body_part], words: {body_part: {CHEST: a}}}"
    )
    out = tmp_path / "pairs.parquet"
    build_pairs(
        [str(tmp_path / "scans")], out, PairsSettings(captions=str(tmp_path / "words.yaml"))
    )
    assert len(rows(out)) == 8
    assert [text for text in texts if text.lower().encode() in all_bytes(out).lower()] == []


def test_other_sources_stay_as_they_are(tmp_path):
    write(tmp_path / "photos", "PNG")
    build_pairs([str(tmp_path / "photos")], tmp_path / "pairs.parquet")
    first = rows(tmp_path / "pairs.parquet")[0]
    assert first["Patient Name"] == PATIENTS[0] and first["key"] == "PID-70000_0.png"
    with pytest.raises(VesaliusError, match="--no-deidentify"):
        PairsSettings(identity_key="x", deidentify=False)


@settings(max_examples=100, deadline=None)
@given(
    st.text("abcdefghijklmnopqrstuvwxyzäé0123456789-_ ^", min_size=4, max_size=20),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_what_names_the_patient_is_found_in_every_text(name, before, after):
    name = f"q{name.strip()}7"
    text = f"{before} {name.upper()}/{after}"
    row = {"MRN": name, "note": text, "subject": name, "view": "PA"}
    cleaned = Deidentifier(PSEUDONYMS).clean(row, text, ())
    assert name.lower() not in json.dumps(cleaned.attributes, ensure_ascii=False).lower()
    assert name.lower() not in (cleaned.caption or "").lower()
    assert cleaned.attributes["subject"] == PSEUDONYMS.of(name)
    assert cleaned.attributes["view"] == "PA" and "MRN" not in cleaned.attributes
    assert name.lower() not in json.dumps(swept([{"a": text}], [name], PSEUDONYMS)).lower()


def test_short_values_are_found_as_words_only():
    assert scrub("1/a1.png", {"1": "1"}, PSEUDONYMS) == f"{PSEUDONYMS.of('1')}/a1.png"
    row = {"patient_id": "1", "note": "stage 1"}
    assert Deidentifier(PSEUDONYMS).clean(row, None, ()).attributes["note"] == "stage 1"


@pytest.mark.parametrize(
    ("name", "value", "left"),
    [
        ("age", "89", "89"), ("age", "93", "90"), ("Patient Age", "101.5", "90"), ("age", "91Y", "90"),
        ("age", "90+", "90+"), ("image", "95", "95"), ("class_name", "nevus", "nevus"),
        ("LastName", "Doe", None), ("DOB", "1931", None), ("StudyDate", "20190701", None),
        ("update", "7", "7"), ("survival_time", "12", "12"), ("zip", "04103", None),
        ("note", "on 3.7.2019 at noon", "on  at noon"), ("note", "aged 97 years", "aged 90 years"),
        ("note", "seen 20190302.", "seen ."), ("note", "on 3/12/19 and 2-Mar-19", "on  and "),
        ("note", "March 2, 2019 to 5th of May 2019", " to "), ("note", "2 septal 10 mm", "2 septal 10 mm"),
        ("note", "id-a20190302bcdef01", "id-a20190302bcdef01"), ("note", "T1/2/3", "T1/2/3"),
    ],
)  # fmt: skip
def test_columns(name, value, left):
    assert Deidentifier(PSEUDONYMS).clean({name: value}, None, ()).attributes.get(name) == left


def test_words_of_a_description_or_a_comment_stay_in_captions():
    pydicom = pytest.importorskip("pydicom")
    row = {"series_description": "full mammogram images", "note": "mammogram"}
    cleaned = Deidentifier(PSEUDONYMS).clean(row, "full mammogram", ())
    assert (cleaned.attributes, cleaned.caption) == ({"note": "mammogram"}, "full mammogram")
    made = pydicom.Dataset()
    made.PatientID, made.PatientComments = "P77123", "chest pain"
    made.EthnicGroup, made.InstitutionalDepartmentName = "White", "Chest clinic"
    cleaned = Deidentifier(PSEUDONYMS).clean({}, "white lines in the chest", identities(made) or ())
    assert cleaned.caption == "white lines in the chest"


def test_a_short_name_is_found_as_it_is_spoken():
    clean = Deidentifier(PSEUDONYMS).clean
    for text in ("Mr. Kim Lee walks", "Lee, Kim walks", "LEE KIM walks"):
        assert "lee" not in (clean({}, text, ["Lee^Kim"]).caption or "").lower()
    assert clean({}, "kim is a leek", ["Lee^Kim"]).caption == "kim is a leek"


def test_dates_in_file_names_and_rows_named_by_option_say_nothing(tmp_path):
    write_dicom(tmp_path / "scans")
    place = tmp_path / "scans" / f"{PATIENTS[0]}_PID-70000"
    place.rename(place.with_name("2018-11-30 Ruprecht0"))
    row = "2018-11-30 Ruprecht0/ACC98041-20190701-0.dcm"
    out = tmp_path / "pairs.parquet"
    build_pairs([str(tmp_path / "scans")], out, PairsSettings(test=(row,)))
    assert [one["split"] for one in rows(out)].count("test") == 2
    assert len({one["key"] for one in rows(out)}) == 16
    written = all_bytes(out).lower()
    assert b"2018-11-30" not in written and b"ruprecht0" not in written
