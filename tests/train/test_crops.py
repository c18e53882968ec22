import pytest
import torch

from vesalius.pairs.table import read_pairs
from vesalius.train import crops
from vesalius.train.crops import Crops
from vesalius.train.draws import generator


@pytest.fixture
def both(tiny_pairs, monkeypatch):
    """Crops from memory, and of the same rows file by file."""
    pairs = read_pairs(tiny_pairs)
    rows = pairs.rows("train")
    held, single = (Crops(pairs, rows, 32, 24, "cpu") for _ in range(2))
    assert held.held() is not None
    monkeypatch.setattr(crops, "HOST_SHARE", 0.0)
    assert single.held() is None
    return rows, held, single


def test_crops_from_memory_are_those_cut_from_files_turned_or_not(both):
    rows, held, single = both
    chosen = [rows[k] for k in (3, 0, 3, 5, 1, 9, 12, 7, 8, 2)]
    symmetric = [True, False] * 5
    one, other = (c.random(chosen, symmetric, generator(1, 40)) for c in (held, single))
    assert one.shape == (10, 3, 24, 24) and one.dtype == torch.uint8
    assert torch.equal(one, other)
    assert torch.equal(one, held.random(chosen, symmetric, generator(1, 40)))
    assert not torch.equal(one, held.random(chosen, symmetric, generator(1, 44)))
    assert torch.equal(held.whole(chosen), single.whole(chosen))


def test_one_indexing_gives_what_is_cut_image_by_image(both):
    """It is what runs where the images lie on a GPU."""
    rows, held, single = both
    numbers = torch.tensor(
        [[0, 8, 3, 5, 1, 2, 7, 4], [8, 0, 1, 6, 3, 2, 5, 7], [0, 1, 2, 3, 4, 5, 6, 7]]
    )
    images = held.held()
    gathered = held.gathered(images, rows[:8], *numbers)
    assert torch.equal(gathered, torch.stack(single._cut(rows[:8], *numbers)))


def test_a_crop_is_a_part_of_its_image(both):
    rows, held, _ = both
    (crop,) = held.random(rows[:1], [False], generator(0, 0))
    (image,) = held.whole(rows[:1])
    windows = image.unfold(1, 24, 1).unfold(2, 24, 1)  # (3, 9, 9, 24, 24)
    assert any(torch.equal(windows[:, y, x], crop) for y in range(9) for x in range(9))
