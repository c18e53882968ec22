import sys

import numpy as np
import pytest

from vesalius.errors import VesaliusError
from vesalius.images.pixels import BadImage
from vesalius.pairs.readers import nifti, sources
from vesalius.pairs.readers.base import Found, Note, Skipped
from vesalius.pairs.readers.volumes import patient_folders, read, stem
from vesalius.pairs.settings import ReaderOptions

sitk = pytest.importorskip("SimpleITK")

X, Y, Z = 40, 30, 20  # voxels to the patient's left, back and head


def body():
    """(z, y, x) in LPS: bright at the right, the front and the head of the patient."""
    array = np.zeros((Z, Y, X), np.int16)
    array[:, :, :10] += 100  # right
    array[:, :8, :] += 300  # front
    array[15:] += 500  # head
    return array


def write(path, array=None, spacing=(1.0, 1.0, 1.0), orientation="LPS"):
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = sitk.GetImageFromArray(body() if array is None else array)
    volume.SetSpacing(spacing)
    sitk.WriteImage(sitk.DICOMOrient(volume, orientation), str(path))


def items(folder, **options):
    return list(read(folder, ReaderOptions(**options)))


def shown(folder, **options):
    return items(folder, **options)[0].load().array


def reasons(folder, **options):
    return {item.key: item.reason for item in items(folder, **options) if isinstance(item, Skipped)}


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LIP", "ASR", "PIR"])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.mha", "a.mhd", "a.nrrd"])
def test_every_plane_is_seen_as_radiologists_see_it_however_it_was_stored(
    tmp_path, orientation, name
):
    write(tmp_path / name, orientation=orientation)
    axial = shown(tmp_path, window="0..900", slices="3..3").astype(int)
    assert axial.shape == (Y, X)
    assert axial[0].mean() > axial[-1].mean()  # front up
    assert axial[:, 0].mean() > axial[:, -1].mean()  # right on the left
    coronal = shown(tmp_path, window="0..900", slices="3..3", plane="coronal").astype(int)
    assert coronal.shape == (Z, X)
    assert coronal[0].mean() > coronal[-1].mean()  # head up
    assert coronal[:, 0].mean() > coronal[:, -1].mean()  # right on the left
    sagittal = shown(tmp_path, window="0..900", slices="3..3", plane="sagittal").astype(int)
    assert sagittal.shape == (Z, Y)
    assert sagittal[0].mean() > sagittal[-1].mean()  # head up
    assert sagittal[:, 0].mean() > sagittal[:, -1].mean()  # front on the left


def test_slices_are_numbered_from_the_feet_the_front_and_the_right(tmp_path):
    write(tmp_path / "a.nii.gz", orientation="RAI")
    for plane, bright in (("axial", -1), ("coronal", 0), ("sagittal", 0)):
        means = [item.load().array.mean() for item in items(tmp_path, plane=plane)]
        assert np.argmax(means) in (bright % len(means), len(means) - 5, 0)
        assert means[bright] > means[-1 - bright]


def test_pixels_are_square_in_every_plane(tmp_path):
    write(tmp_path / "a.nii.gz", spacing=(0.5, 1.0, 3.0))
    assert shown(tmp_path).shape == (60, 40)
    assert shown(tmp_path, plane="coronal").shape == (120, 40)
    assert shown(tmp_path, plane="sagittal").shape == (60, 30)


def test_one_window_is_taken_for_the_whole_volume(tmp_path):
    write(tmp_path / "a.nii.gz")
    feet, head = (item.load() for item in items(tmp_path, slices="every:19"))
    assert feet.attributes["window"] == head.attributes["window"] == "0..900"
    assert feet.array.max() < 140 and head.array.max() == 255
    assert feet.bits == 16


def test_sixteen_bits_keep_what_eight_would_merge(tmp_path):
    ramp = np.arange(Z * Y * X, dtype=np.int16).reshape(Z, Y, X)
    write(tmp_path / "a.nii.gz", ramp)
    deep = shown(tmp_path, window="0..23999", bits=16)
    assert deep.dtype == np.uint16 and np.unique(deep).size == Y * X


def test_a_slice_says_where_it_comes_from(tmp_path):
    write(tmp_path / "lesion" / "case1.nii.gz", spacing=(0.5, 0.5, 3.0))
    item = items(tmp_path, slices="12..12")[0]
    assert item.key == "lesion/case1.nii.gz#axial012"
    assert (item.label, item.group) == ("lesion", "lesion/case1")
    assert item.attributes == {"plane": "axial", "slice": "13/20", "spacing": "0.5x0.5x3"}
    assert item.stamp
    (single,) = items(tmp_path / "lesion" / "case1.nii.gz", slices="middle", plane="sagittal")
    assert (single.key, single.label) == ("case1.nii.gz#sagittal019", None)


def test_masks_are_left_out_by_their_names(tmp_path):
    write(tmp_path / "a.nii.gz")
    write(tmp_path / "a_seg.nii.gz")
    found = items(tmp_path, slices="middle", exclude=("*_seg.nii.gz",))
    assert [item.key for item in found] == ["a.nii.gz#axial009"]


def test_voxels_that_are_not_numbers_become_background(tmp_path):
    array = body().astype(np.float32)
    array[:, :, -5:] = np.nan
    write(tmp_path / "a.mha", array)
    assert not shown(tmp_path, slices="19..19")[:, -5:].any()
    write(tmp_path / "a.mha", np.full_like(array, np.nan))
    with pytest.raises(BadImage, match="no pixel is a number"):
        shown(tmp_path)


def test_what_is_no_single_volume_is_skipped_by_name(tmp_path):
    write(tmp_path / "a.nii.gz")
    (tmp_path / "cut.nii").write_bytes((tmp_path / "a.nii.gz").read_bytes()[:200])
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty.mha").touch()
    sitk.WriteImage(sitk.Image([9, 9, 9, 5], sitk.sitkInt16), str(tmp_path / "time.nii.gz"))
    sitk.WriteImage(sitk.Image([9, 9], sitk.sitkInt16), str(tmp_path / "flat.nii.gz"))
    sitk.WriteImage(sitk.Image([9, 9, 9], sitk.sitkVectorUInt8), str(tmp_path / "rgb.mha"))
    found = reasons(tmp_path, slices="middle")
    assert set(found) == {
        "cut.nii",
        "notes.txt",
        "empty.mha",
        "time.nii.gz",
        "flat.nii.gz",
        "rgb.mha",
    }
    assert found["time.nii.gz"].startswith("4-D volume")
    assert found["flat.nii.gz"].startswith("2-D volume")
    assert found["rgb.mha"].startswith("colour or vector volume")
    assert "damaged" in found["cut.nii"] and "damaged" in found["empty.mha"]
    assert "not a volume" in found["notes.txt"]
    assert "none of its 20 slices" in reasons(tmp_path, slices="90..99")["a.nii.gz"]


def test_a_truncated_volume_fails_without_its_neighbours(tmp_path):
    noise = np.random.default_rng(0).integers(0, 900, (Z, Y, X), np.int16)
    write(tmp_path / "a.mha", noise)
    write(tmp_path / "b.mha", noise)
    (tmp_path / "a.mha").write_bytes((tmp_path / "a.mha").read_bytes()[:-9000])
    bad, good = items(tmp_path, slices="middle")
    with pytest.raises(BadImage, match="damaged"):
        bad.load()
    assert good.load().array.any()


def test_a_volume_is_read_once_for_all_its_slices(tmp_path, monkeypatch):
    write(tmp_path / "a.nii.gz")
    reads = []
    real = nifti.voxels
    monkeypatch.setattr(nifti, "voxels", lambda path: reads.append(path) or real(path))
    for item in items(tmp_path):
        assert isinstance(item, Found)
        item.load()
    assert len(reads) == 1


def test_wrong_options_and_a_missing_package_are_told_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(VesaliusError, match="plane 'oblique'"):
        items(tmp_path, plane="oblique")
    with pytest.raises(VesaliusError, match="slices 'few'"):
        items(tmp_path, slices="few")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(VesaliusError, match=r"pip install 'vesalius\[volumes\]'"):
        items(tmp_path)


def test_stems_lose_both_suffixes_of_a_compressed_file():
    assert [stem(name) for name in ("a.b.nii.gz", "c.NRRD", "d")] == ["a.b", "c", "d"]


@pytest.mark.parametrize(
    ("keys", "patients"),
    [
        (["p1/t1.nii.gz", "p1/t2.nii.gz", "p2/t1.nii.gz", "p2/t2.nii.gz"], {"p1", "p2"}),
        (["a/BraTS1/BraTS1_t1.nii", "a/BraTS1/BraTS1_t2.nii"], {"a/BraTS1"}),
        (["tumour/1.nii", "tumour/2.nii", "tumour/3.nii", "healthy/1.nii"], set()),
        (["tumour/1.nii", "healthy/2.nii", "tumour/3.nii"], set()),
        (["p0/t2.nii", "p0/adc.nii", "p1/adc.nii"], {"p0", "p1"}),
        (["1.nii", "2.nii"], set()),
        (["covid/case1.nii", "covid/case2.nii", "normal/case1.nii"], set()),
        (["patient1/frame01.nii", "patient2/frame01.nii"], {"patient1", "patient2"}),
        (["imagesTr/spleen_1.nii", "labelsTr/spleen_1.nii"], set()),
    ],
)
def test_one_patients_volumes_stay_together(keys, patients):
    assert patient_folders(keys) == patients


@pytest.mark.parametrize(
    ("names", "said"),
    [
        # BIDS: a patient's sessions and sequences stay together
        (
            ["sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz", "sub-01/ses-2/anat/sub-01_ses-2_T2w.nii.gz"],
            [("sub-01", None, None, "T1w"), ("sub-01", None, None, "T2w")],
        ),
        (
            ["derivatives/prep/sub-01/anat/sub-01_T1w.nii", "sub-01_T1w.nii"],
            [("sub-01", None, None, "T1w")] * 2,
        ),
        # ACDC
        (
            ["testing/patient2/patient2_4d.nii", "training/patient1/patient1_frame01.nii"],
            [
                ("testing/patient2", None, "testing", None),
                ("training/patient1", None, "training", "frame01"),
            ],
        ),
        (
            ["test/covid/a.nii", "train/normal/b.nii"],
            [("test/covid/a", "covid", "test", None), ("train/normal/b", "normal", "train", None)],
        ),
        (
            ["imagesTr/spleen_1.nii", "labelsTr/spleen_1.nii"],
            [("imagesTr/spleen_1", None, None, None), ("labelsTr/spleen_1", None, None, None)],
        ),
        # IXI
        (["IXI002-T1.nii", "IXI002-T2.nii"], [("IXI002", None, None, "T1"), ("IXI002", None, None, "T2")]),
        (["HGG/B1/B1_seg.nii", "HGG/B1/B1_t1ce.nii"], [("HGG/B1", "HGG", None, None), ("HGG/B1", "HGG", None, "t1ce")]),
    ],
)  # fmt: skip
def test_paths_say_patient_label_split_and_sequence(tmp_path, names, said):
    for name in names:
        write(tmp_path / name)
    every = items(tmp_path, slices="middle")
    shown = [item for item in every if isinstance(item, Found)]
    assert [(i.group, i.label, i.split, i.attributes.get("sequence")) for i in shown] == said
    kinds = {i.attributes.get("sequence", "").lower() for i in shown} - {"", "frame01"}
    assert any(isinstance(item, Note) for item in every) == (len(kinds) > 1)


def test_a_bids_folder_says_who_its_subjects_are(tmp_path):
    for subject in ("01", "02"):
        write(tmp_path / f"sub-{subject}" / "anat" / f"sub-{subject}_T1w.nii.gz")
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tage\tsex\tdiagnosis\nsub-01\t61.0\tF\tMS\nsub-02\tn/a\tM\thealthy\n"
    )
    (source,) = sources(str(tmp_path))
    assert source.reader == "volumes"
    found = list(source.items(ReaderOptions(slices="middle")))
    assert [(item.group, item.label) for item in found] == [("sub-01", "MS"), ("sub-02", "healthy")]
    assert [item.attributes.get("age") for item in found] == ["61", None]
