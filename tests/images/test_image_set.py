import json

import pytest
from PIL import Image

from vesalius.errors import VesaliusError
from vesalius.images.image_set import survey, unfair
from vesalius.pairs.open_images import open_images
from vesalius.pairs.table import Pairs


def write(path, colour=0, size=(20, 20), mode="RGB", kind="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour if mode == "L" else (colour,) * 3).save(path, kind)


def test_a_pairs_table_is_a_set_and_so_is_its_split(tiny_pairs):
    images = open_images(tiny_pairs)
    assert isinstance(images, Pairs)
    part = images.take(images.rows("val"))
    assert len(part) == len(images.rows("val"))
    assert part.encoded(0) == images.encoded(images.rows("val")[0])
    assert set(part.column("split")) == {"val"}
    # the key is the table's own sha1, so that features and latents agree on what an image is
    assert survey(images).keys == images.column("sha1")


def test_a_synthetic_folder_is_read_by_its_manifest(tmp_path):
    rows = []
    for k in range(3):
        write(tmp_path / f"{k}.png", k)
        rows.append({"file": f"{k}.png", "prompt": f"a cell {k}", "label": "cell", "seed": k})
    write(tmp_path / "contact-sheet.png", 9)
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    images = open_images(tmp_path)
    assert len(images) == 3  # the sheet is no sample
    assert images.column("caption") == ["a cell 0", "a cell 1", "a cell 2"]
    assert images.column("label") == ["cell"] * 3
    assert images.column("group") == [""] * 3


def test_a_manifest_without_files_is_refused(tmp_path):
    (tmp_path / "manifest.jsonl").write_text('{"prompt": "a cell"}')
    with pytest.raises(VesaliusError, match="row 1 names no `file`"):
        open_images(tmp_path)


def test_class_folders_and_tars_are_read_as_pairs_reads_them(tmp_path):
    import tarfile

    write(tmp_path / "folder" / "melanoma" / "a.png")
    assert open_images(tmp_path / "folder").column("label") == ["melanoma"]
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(tmp_path / "folder" / "melanoma" / "a.png", "a.png")
    (tmp_path / "folder" / "melanoma" / "notes.txt").write_text("no image")
    images = open_images(tmp_path / "set.tar")
    assert not survey(images).unreadable
    assert images.encoded(0) == (tmp_path / "folder" / "melanoma" / "a.png").read_bytes()


def test_nothing_to_measure_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(VesaliusError, match="no image"):
        open_images(tmp_path)


def test_mixed_sizes_modes_and_formats_are_flagged(tmp_path):
    write(tmp_path / "a.png", 1)
    write(tmp_path / "b.png", 2, size=(30, 20))
    write(tmp_path / "c.png", 3, mode="L")
    write(tmp_path / "d.jpg", 4, kind="JPEG")
    told = " | ".join(survey(open_images(tmp_path)).warnings())
    assert "mixed sizes: 20x20 3, 30x20 1" in told
    assert "mixed modes: RGB 3, L 1" in told
    assert "mixed formats: PNG 3, JPEG 1" in told


def test_unfair_comparisons_are_named(tmp_path):
    write(tmp_path / "real" / "a.jpg", 1, kind="JPEG")
    write(tmp_path / "fake" / "a.png", 1, size=(40, 40))
    real, fake = (survey(open_images(tmp_path / name)) for name in ("real", "fake"))
    told = " | ".join(unfair(real, fake))
    assert "format JPEG, most synthetic PNG" in told
    assert "size 20x20, most synthetic 40x40" in told
    assert unfair(real, real)[0].startswith("1 files are in the real and in the synthetic set")


def test_a_file_that_goes_is_told_not_raised(tmp_path):
    write(tmp_path / "a.png")
    images = open_images(tmp_path)
    (tmp_path / "a.png").unlink()
    assert survey(images).unreadable == {0: "no such file or directory"}
