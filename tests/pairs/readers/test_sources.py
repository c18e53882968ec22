"""Which reader a source gets by itself, and what is asked back where that is not clear."""

import pytest
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.pairs.build import build_pairs
from vesalius.pairs.readers import ReaderOptions, sources
from vesalius.pairs.table import read_pairs


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


def test_images_beside_an_earlier_table_of_them_are_asked_about(tmp_path):
    folder = tmp_path / "work"
    for name in ("a/1.png", "b/2.png"):
        (folder / name).parent.mkdir(parents=True)
        Image.new("RGB", (64, 64), "red" if name[0] == "a" else "blue").save(folder / name)
    build_pairs([str(folder)], tmp_path / "pairs.parquet")
    (tmp_path / "pairs.parquet").rename(folder / "pairs.parquet")
    with pytest.raises(
        VesaliusError, match=r"images, such as a.1\.png, and pairs\.parquet.*--reader"
    ):
        sources(str(folder))
    assert sources(str(folder), "folders")[0].reader == "folders"
    assert sources(str(folder / "pairs.parquet"))[0].reader == "parquet"


def test_a_column_for_a_reader_without_any_is_refused(tmp_path):
    (source,) = sources(str(make(tmp_path, "a/b.jpg")))
    with pytest.raises(VesaliusError, match=r"--group-column: .* --group-pattern"):
        source.items(ReaderOptions(group_column="folder"))


def test_another_package_adds_a_reader(tmp_path, monkeypatch, run_cli):
    """One module and one entry point, as its installed metadata would say them."""
    package = tmp_path / "site"
    (package / "lab-1.0.dist-info").mkdir(parents=True)
    (package / "lab-1.0.dist-info" / "METADATA").write_text("Name: lab\nVersion: 1.0\n")
    (package / "lab-1.0.dist-info" / "entry_points.txt").write_text(
        "[vesalius.readers]\nppm = lab_ppm:read\n"
    )
    (package / "lab_ppm.py").write_text(
        "from vesalius.pairs.readers.base import Found, file_stamp\n"
        "def read(source, options):\n"
        "    for path in sorted(source.glob('*.ppm')):\n"
        "        yield Found(path.name, path.read_bytes, file_stamp(path), label=path.stem[0])\n"
    )
    monkeypatch.syspath_prepend(package)
    folder = tmp_path / "source"
    folder.mkdir()
    for name, level in {"a1": 30, "a2": 90, "b1": 200}.items():
        Image.new("RGB", (40, 40), (level, 0, 255 - level)).save(folder / f"{name}.ppm")
    out = tmp_path / "pairs.parquet"
    done = run_cli("pairs", folder, "--reader", "ppm", "--split", "none", "--out", out)
    assert done[0] == 0, done
    assert read_pairs(out).column("label") == ["a", "a", "b"]
    code, _, err = run_cli("pairs", folder, "--reader", "pgm", "--out", out)
    assert code == 2
    assert "prostate, ppm" in err
