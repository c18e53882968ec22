import io
import json

import numpy as np
import pytest
from PIL import Image
from tests.small import fields

from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.nearest_training import Options, find_copies
from vesalius.images.image_set import ImageSet
from vesalius.statistics.share import Share


def listed(images, groups: str = "") -> ImageSet:
    def png(image: np.ndarray) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image)).save(stream, "PNG")
        return stream.getvalue()

    names = [f"{groups}{k}" for k in range(len(images))] if groups else []
    return ImageSet([lambda i=image: png(i) for image in images], {"group": names})


def coarse(images):
    return images[:, ::9, ::9].reshape(len(images), -1).astype(float)


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """100 new images, 4 exact copies, 2 mirrored ones, one twice; features are coarse pixels."""
    train, held, new = fields(150, 0, 72), fields(120, 1, 72), fields(100, 2, 72)
    synthetic = np.concatenate([new, train[10:14], train[20:22, :, ::-1], new[:1]])
    sets = [listed(synthetic), listed(train, "t"), listed(held, "h")]
    cache = tmp_path_factory.mktemp("cache")
    features = {"coarse": tuple(coarse(x) for x in (synthetic, train, held))}
    found = find_copies(*sets, features, Options(permutations=199), cache=cache)
    return sets, cache, found


def test_exact_copies_are_found_with_certainty_in_every_space(audited):
    _, _, found = audited
    assert set(found.spaces) == {"structure", "tiles", "coarse"}
    for space in found.spaces.values():
        assert space.flagged[100:104].all()
        assert space.index[100:104].tolist() == [10, 11, 12, 13]
        assert space.flagged[:100].sum() <= 5


def test_mirrored_copies_are_found_by_structure_and_by_pixels_where_asked(audited):
    sets, cache, found = audited
    assert found.spaces["structure"].flagged[104:106].all()
    assert found.spaces["structure"].index[104:106].tolist() == [20, 21]
    assert not found.spaces["tiles"].flagged[104:106].any()
    again = find_copies(*sets, None, Options(symmetries=(0, 1), permutations=9), cache=cache)
    assert again.spaces["tiles"].flagged[104:106].all()


def test_the_closest_pairs_come_first(audited):
    _, _, found = audited
    assert {n for n, _ in found.spaces["structure"].closest(6)} == set(range(100, 106))


def test_duplicates_within_the_synthetic_set_are_counted(audited):
    _, _, found = audited
    assert [(pair.a, pair.b) for pair in found.duplicates] == [(0, 106)]
    assert found.duplicated.count == 1


def test_the_set_that_copies_is_caught_and_held_out_images_pass(audited):
    sets, cache, found = audited
    assert found.spaces["structure"].memorising is None  # it has too few neighbours for the test
    for name in ("tiles", "coarse"):
        assert found.spaces[name].memorising.p < 0.05
        assert found.spaces[name].tail.p < 0.05
    for space in found.spaces.values():
        assert space.held_out.value <= 0.01
    # other real images in the place of the synthetic ones
    other = fields(120, 5, 72)
    features = {"coarse": tuple(coarse(x) for x in (other, fields(150, 0, 72), fields(120, 1, 72)))}
    real = find_copies(listed(other), *sets[1:], features, Options(permutations=199), cache=cache)
    for space in real.spaces.values():
        assert space.share.interval[0] < 0.02
    for name in ("tiles", "coarse"):
        assert real.spaces[name].memorising.p > 0.05


def test_what_is_told_is_json_and_notes_training_images_in_the_set(audited):
    _, _, found = audited
    told = json.loads(json.dumps(found.as_dict()))
    assert told["spaces"]["tiles"]["copies"]["n"] == 107
    assert told["spaces"]["tiles"]["thresholds"][""]["n"] == 120
    assert any("4 synthetic files are training images" in note for note in told["notes"])


def test_without_held_out_images_training_ones_calibrate_and_it_is_said(audited):
    sets, cache, _ = audited
    found = find_copies(sets[0], sets[1], listed([]), cache=cache)
    assert found.spaces["tiles"].held_out is None
    assert found.spaces["tiles"].memorising is None
    assert "0 held-out images, and 150 of training" in found.spaces["tiles"].notes[0]
    assert found.spaces["structure"].flagged[100:106].all()


def test_a_wrong_use_is_told_in_one_line(audited):
    sets, cache, _ = audited
    with pytest.raises(VesaliusError, match="at least one"):
        find_copies(listed([]), *sets[1:], cache=cache)
    wrong = (np.zeros((3, 2)), np.zeros((150, 2)), np.zeros((120, 2)))
    with pytest.raises(VesaliusError, match="not those of 107 images"):
        find_copies(*sets, {"other": wrong}, cache=cache)


def test_wilsons_interval():
    assert Share(0, 100).interval == pytest.approx((0, 0.0370), abs=1e-4)
    assert Share(5, 100).interval == pytest.approx((0.0215, 0.1118), abs=1e-4)
    assert Share(100, 100).interval == pytest.approx((0.9630, 1), abs=1e-4)
