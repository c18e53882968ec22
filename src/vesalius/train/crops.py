"""Random crops of the images of a table: from memory where all of them fit, else file by file."""

import os
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from vesalius.core.progress import Progress, no_progress
from vesalius.pairs.table import Pairs
from vesalius.train.conditioning import send
from vesalius.train.distributed import world_size
from vesalius.train.latents import turn

DEVICE_SHARE = 0.4  # of a GPU's free memory
HOST_SHARE = 0.25  # of the machine's memory


class Crops:
    """Square crops of `rows` of a table, their images `size` pixels wide.

    All images are decoded once, when the first one is asked for, if they fit in the memory of the
    device or else of the machine; on a GPU a batch is then cut by one indexing. Where they fit in
    neither, each is decoded whenever it is asked for. The crops are the same.
    """

    def __init__(
        self,
        pairs: Pairs,
        rows: list[int],
        size: int,
        crop: int,
        device: str,
        progress: Progress = no_progress,
    ) -> None:
        self.pairs, self.size, self.crop, self.device = pairs, size, crop, device
        self.progress = progress
        self.rows = list(dict.fromkeys(rows))
        self.place = {row: place for place, row in enumerate(self.rows)}
        # the eight symmetries of a crop, as the pixels that its pixels come from
        pixels = torch.arange(crop * crop).view(crop, crop)
        self.turned = torch.stack([turn(pixels, symmetry) for symmetry in range(8)])
        self._held: Tensor | None = None  # (N, size, size, 3) uint8
        self._asked = False

    def random(self, rows: list[int], symmetric: list[bool], draw: torch.Generator) -> Tensor:
        """One crop of each of `rows`, turned at random where `symmetric`: (B, 3, crop, crop) uint8.

        On the device. Every number comes from `draw`, a generator on the CPU.
        """
        room = self.size - self.crop + 1
        drawn = [[int(torch.randint(n, (), generator=draw)) for n in (room, room, 8)] for _ in rows]
        top, left, symmetry = torch.tensor(drawn).T
        symmetry = torch.where(torch.tensor(symmetric), symmetry, 0)
        held = self.held()
        if held is None or held.device.type == "cpu":  # where slices are fastest
            return send(torch.stack(self._cut(rows, top, left, symmetry)), self.device)
        return self.gathered(held, rows, top, left, symmetry)

    def gathered(
        self, held: Tensor, rows: list[int], top: Tensor, left: Tensor, symmetry: Tensor
    ) -> Tensor:
        """The crops that `_cut` gives, by one indexing of all images (N, size, size, 3)."""
        places = torch.tensor([self.place[row] for row in rows])
        numbers = torch.stack([places, top, left, symmetry])  # together: one copy to the device
        if held.device.type == "cuda":
            numbers = numbers.pin_memory()
        place, top, left, symmetry = numbers.to(held.device, non_blocking=True)[..., None, None]
        pixel = self.turned[symmetry[:, 0, 0]]  # (B, crop, crop)
        down = top + pixel.div(self.crop, rounding_mode="floor")
        return held[place, down, left + pixel % self.crop].permute(0, 3, 1, 2)

    def whole(self, rows: list[int]) -> Tensor:
        """The images of `rows`, neither cut nor turned: (B, 3, size, size) uint8 on the device."""
        held = self.held()
        if held is None:
            return send(torch.stack(self._images(rows)), self.device)
        places = torch.tensor([self.place[row] for row in rows], device=held.device)
        return send(held[places].permute(0, 3, 1, 2), self.device)

    def held(self) -> Tensor | None:
        """All images (N, size, size, 3), decoded by the first call; None where they do not fit."""
        if not self._asked:
            self._asked = True
            place = place_for(len(self.rows) * self.size**2 * 3, self.device)
            if place is not None:
                self._held, self.turned = self._decode().to(place), self.turned.to(place)
        return self._held

    def _decode(self) -> Tensor:
        images = torch.empty(len(self.rows), self.size, self.size, 3, dtype=torch.uint8)

        def decode(place: int) -> None:
            images[place] = self._decoded(self.rows[place])

        with ThreadPoolExecutor(os.cpu_count()) as pool, self.progress("decoding images") as count:
            for done, _ in enumerate(pool.map(decode, range(len(images))), 1):
                count(done, len(images))
        return images

    def _decoded(self, row: int) -> Tensor:
        """One image (size, size, 3), read from the table."""
        return torch.from_numpy(self.pairs.image(row, self.size).copy())

    def _images(self, rows: list[int]) -> list[Tensor]:
        """Images (3, size, size), on the CPU; those that are not held are decoded in threads."""
        held = self.held()
        if held is not None:
            return [held[self.place[row]].permute(2, 0, 1) for row in rows]
        with ThreadPoolExecutor(min(len(rows), os.cpu_count() or 1)) as pool:
            return [image.permute(2, 0, 1) for image in pool.map(self._decoded, rows)]

    def _cut(self, rows: list[int], top: Tensor, left: Tensor, symmetry: Tensor) -> list[Tensor]:
        numbers = zip(
            self._images(rows), top.tolist(), left.tolist(), symmetry.tolist(), strict=True
        )
        return [
            turn(image[:, t : t + self.crop, x : x + self.crop], s) for image, t, x, s in numbers
        ]


def place_for(needed: int, device: str) -> str | None:
    """Where so many bytes may be held: on the device, on the CPU, or nowhere (None)."""
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu and needed < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        return device
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no such call
        return None
    # each process of one machine holds its own
    return "cpu" if needed * world_size() < HOST_SHARE * memory else None
