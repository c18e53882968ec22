"""One model that draws with several adapters in turn: one at a time is in its weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from vesalius.models.adapter_files import Lora, read_adapter
from vesalius.models.adapters import (
    Applied,
    apply_adapter,
    check_weight,
    facts_of,
    fitting_weights,
    merge,
    parse_adapter,
)
from vesalius.sample.generate import TextToImage


@dataclass(frozen=True)
class _Merged:
    """A LoRA, and the weights of the model that it changes."""

    lora: Lora
    weight: float
    targets: dict[str, nn.Parameter]


class Switching:
    """A model with named lists of adapters, and one list in use at a time.

    A LoRA is taken out of the weights by putting back what they were, to the bit: an image is the
    same as of a model that was loaded with that list alone. Words of textual inversions are all
    there from the beginning, and change nothing of a prompt without them.
    """

    def __init__(self, model: TextToImage, adapters: Mapping[str, Sequence[str]]) -> None:
        """`adapters` are FILE or FILE:WEIGHT by the list's name, beside those that `model` has.

        Raises VesaliusError for one that cannot be read or was made for another base.
        """
        self._generator, known, files = model.generator, {}, {}
        for text in dict.fromkeys(text for some in adapters.values() for text in some):
            path, weight = parse_adapter(text)
            files[text] = path, check_weight(weight, path), read_adapter(path)
            if not isinstance(files[text][2], Lora):
                known[text] = apply_adapter(model.generator, files[text][2], path, weight)
        self._loras: dict[str, list[_Merged]] = {name: [] for name in adapters}
        self.models: dict[str, TextToImage] = {}
        for name, some in adapters.items():
            own: list[Applied] = []
            for text in some:
                path, weight, read = files[text]
                if isinstance(read, Lora):
                    targets = fitting_weights(model.generator, read, path)
                    self._loras[name].append(_Merged(read, weight, targets))
                own.append(known[text] if text in known else facts_of(path, weight))
            self.models[name] = TextToImage(model.generator, [*model.adapters, *own])
        self._used: str | None = None
        self._before: dict[nn.Parameter, torch.Tensor] = {}  # weights without what is in use

    @property
    def used(self) -> str | None:
        """The list in use; None: not one yet."""
        return self._used

    @torch.no_grad()
    def use(self, name: str) -> TextToImage:
        """The model with that list and no other."""
        if name != self._used:
            for target, values in self._before.items():
                target.copy_(values)
            self._before, self._used = {}, name
            for one in self._loras[name]:
                for target in one.targets.values():
                    if target not in self._before:
                        self._before[target] = target.to("cpu", copy=True)
                merge(one.lora, one.weight, one.targets)
        return self.models[name]
