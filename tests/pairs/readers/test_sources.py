"""Which reader a source gets by itself, and what is asked back where that is not clear."""

import pytest

from vesalius.errors import VesaliusError
from vesalius.pairs.readers import ReaderOptions, sources


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("names", "reader"),
    [
        (["melanoma/a.jpg", "nevus/b.jpg"], "folders"),
        (["train/a.jpg", "metadata.csv"], "metadata"),
        (["images/a.jpg", "HAM10000_metadata.csv"], "metadata"),
        (["a.png", "a.txt", "b.png", "b.txt"], "text"),
        (["a.parquet", "b.parquet"], "parquet"),
        (["data/train-00000-of-00001.parquet"], "parquet"),
        (["dataset_dict.json", "train/state.json"], "datasets"),
        (["000.tar", "001.tar"], "webdataset"),
        (["p/1.dcm", "p/2.dcm"], "dicom"),
        (["p/t2.nii.gz", "readme.txt"], "volumes"),
    ],
)
def test_the_reader_is_recognised(tmp_path, names, reader):
    assert {source.reader for source in sources(str(make(tmp_path, *names)))} == {reader}


def test_names_come_from_the_path_or_from_the_user(tmp_path):
    make(tmp_path / "CheXpert-v1.0", "a/b.jpg")
    assert sources(str(tmp_path / "CheXpert-v1.0"))[0].name == "CheXpert-v1.0"
    assert sources(f"chest={tmp_path / 'CheXpert-v1.0'}")[0].name == "chest"
    make(tmp_path, "x.parquet", "y.parquet")
    (tmp_path / "CheXpert-v1.0" / "a" / "b.jpg").unlink()
    assert [source.name for source in sources(str(tmp_path))] == ["x", "y"]
    assert [source.name for source in sources(str(tmp_path), exclude=("x*",))] == ["y"]


def test_several_tables_are_asked_about(tmp_path):
    make(tmp_path, "train.csv", "valid.csv", "train/a.jpg")
    with pytest.raises(VesaliusError, match=r"train\.csv, valid\.csv: give the one"):
        sources(str(tmp_path))
    assert sources(str(tmp_path), "folders")[0].reader == "folders"


def test_a_column_for_a_reader_without_any_is_refused(tmp_path):
    (source,) = sources(str(make(tmp_path, "a/b.jpg")))
    with pytest.raises(VesaliusError, match=r"--group-column: .* --group-pattern"):
        source.items(ReaderOptions(group_column="folder"))
