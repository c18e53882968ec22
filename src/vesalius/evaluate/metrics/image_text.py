"""Do images and their captions belong together, to a CLIP and to a model that answers questions?

    CLIPScore = 2.5 max(cos(image, caption), 0)          (Hessel et al. 2021, arXiv:2104.08718, eq. 1)
    VQAScore = P("Yes" | image, 'Does this figure show "{text}"? Please answer yes or no.')

(Lin et al. 2024, arXiv:2404.01291, the question as EyeDiff has it.) The probability is that of the
answer's first token over the whole vocabulary. P(Yes) / (P(Yes) + P(No)) is given beside it, because a
model may spread its belief over other words. The authors' own scorer takes the geometric mean with the
probability that the answer then ends, so its values are not exactly these.

An absolute value means nothing: it depends on the model, the captions and the modality. So every set
is given beside the same figure under shuffled captions, which is what ignoring the prompt would score,
and beside that of real images with their own captions, which is what can be hoped for.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch

from vesalius.errors import VesaliusError
from vesalius.evaluate.metrics.base import Case, Result
from vesalius.evaluate.sets import ComparedSet
from vesalius.images.pixels import open_rgb
from vesalius.models.networks.clip import Clip
from vesalius.models.networks.vqa import Answerer
from vesalius.statistics.figure import Figure
from vesalius.statistics.per_image import by_class, mean_of

SCALE = 2.5
QUESTION = 'Does this figure show "{text}"? Please answer yes or no.'
OnImage = Callable[[int, int], None]


@dataclass(frozen=True)
class Captioned:
    """Images uint8 (H, W, 3), read as they come, with a caption each.

    `labels`, findings with `|` between them, give figures a class; intervals are by `groups`.
    """

    images: Iterable[np.ndarray]
    captions: Sequence[str]
    labels: Sequence[str | None] | None = None
    groups: Sequence[Hashable] | None = None

    def batches(
        self, size: int, on_image: OnImage | None
    ) -> Iterator[tuple[slice, list[np.ndarray]]]:
        """The images, so many at a time. Raises VesaliusError for another number of captions."""
        iterator, done, count = iter(self.images), 0, len(self.captions)
        while batch := list(islice(iterator, size)):
            if done + len(batch) > count:
                done += len(batch)
                break
            yield slice(done, done + len(batch)), batch
            done += len(batch)
            if on_image:
                on_image(done, count)
        if done != count or not done:
            raise VesaliusError(f"{done or 'no'} images for {count} captions")


@dataclass(frozen=True)
class Agreement:
    """How well one set of images fits its captions."""

    model: str
    score: Figure
    shuffled_score: float | None  # under another image's caption; None: all are equal
    classes: dict[str, Figure] = field(default_factory=dict)  # the score of each label
    yes_of_both: Figure | None = None  # P(Yes) / (P(Yes) + P(No))


def measure(case: Case) -> Result:
    """CLIPScore and VQAScore of synthetic and of real images, where models are given."""
    result = Result()
    reference, real = case.new
    models = case.models
    for metric, model in (("clip_score", models.clip), ("vqa_score", models.vqa)):
        if model is None:
            why = f"no model was named: give --{metric.partition('_')[0]}"
            result.leave_out("alignment", metric, why)
            continue
        try:
            if metric not in case.memo:
                case.memo[metric] = _scored(case, metric, real, reference)
            made = _scored(case, metric, case.fake, "synthetic")
        except VesaliusError as error:
            result.leave_out("alignment", metric, str(error))
            continue
        result.figures += [*made.figures, *case.memo[metric].figures]
    return result


def _scored(case: Case, metric: str, whole: ComparedSet, reference: str) -> Result:
    part = whole.take([k for k, caption in enumerate(whole.columns["caption"]) if caption])
    images = (np.asarray(open_rgb(part.encoded(k))) for k in range(len(part)))
    data = Captioned(images, part.columns["caption"], part.labels, part.groups)
    with case.progress(f"{metric}, {reference}") as count:
        if metric == "clip_score" and case.models.clip:
            found = clip_score(case.models.clip, data, on_image=count)
        else:
            assert case.models.vqa
            found = vqa_score(case.models.vqa, data, seed=case.seed, on_image=count)
    result, where = Result(), {"extractor": found.model, "reference": reference}
    note = "all captions are equal" if found.shuffled_score is None else ""
    shuffled = Figure(
        f"{metric} of shuffled captions", found.shuffled_score, n=len(part), note=note
    )
    more = [found.yes_of_both] if found.yes_of_both else []
    result.add("alignment", [found.score, shuffled, *more], **where)
    for of, figure in found.classes.items():
        result.add("alignment", [figure], of=of, **where)
    return result


def clip_score(
    clip: Clip, data: Captioned, *, batch_size: int = 32, on_image: OnImage | None = None
) -> Agreement:
    """CLIPScore, 0 to 2.5.

    The figure for shuffled captions is exact: the mean over all pairs of an image and a caption
    that differs from its own, drawn as often as it occurs.
    Raises VesaliusError for no images, or another number of captions.
    """
    counts = Counter(data.captions)
    distinct = list(counts)
    if not distinct:
        raise VesaliusError("CLIPScore needs an image with a caption at least")
    texts = torch.cat(
        [clip.texts(distinct[k : k + batch_size]) for k in range(0, len(distinct), batch_size)]
    )
    vectors = torch.cat([clip.images(batch) for _, batch in data.batches(batch_size, on_image)])
    scores = SCALE * (vectors @ texts.T).double().numpy().clip(min=0)  # (N, U)
    place = {text: number for number, text in enumerate(distinct)}
    own = np.array([place[caption] for caption in data.captions])
    values = scores[np.arange(len(own)), own]
    return Agreement(
        clip.name,
        mean_of("clip_score", values, data.groups),
        _shuffled(scores, own, np.array(list(counts.values()), float)),
        by_class("clip_score", values, data.labels, data.groups) if data.labels else {},
    )


def _shuffled(values: np.ndarray, own: np.ndarray, occurs: np.ndarray) -> float | None:
    """Mean of `values` (N, U) over captions other than each image's `own` (N,)."""
    weights = np.repeat(occurs[None], len(own), 0)
    weights[np.arange(len(own)), own] = 0
    return float((values * weights).sum() / weights.sum()) if weights.any() else None


def vqa_score(
    model: Answerer,
    data: Captioned,
    *,
    question: str = QUESTION,
    batch_size: int = 8,
    seed: int = 0,
    on_image: OnImage | None = None,
) -> Agreement:
    """VQAScore, 0 to 1.

    Each image is asked about a second time, with another image's caption (one draw by `seed`).
    Raises VesaliusError for no images, another number of captions, or a question without {text}.
    """
    if "{text}" not in question:
        raise VesaliusError(f"the question {question!r} has no {{text}} for the caption")
    others = other_captions(data.captions, seed)
    own: list[np.ndarray] = []
    shuffled: list[np.ndarray] = []
    for part, batch in data.batches(batch_size, on_image):
        for asked, answers in ((data.captions, own), (others, shuffled)):
            if asked:
                texts = [question.replace("{text}", text) for text in asked[part]]
                answers.append(model(batch, texts))
    yes, no = np.concatenate(own).astype(float).T
    return Agreement(
        model.name,
        mean_of("vqa_score", yes, data.groups),
        float(np.concatenate(shuffled)[:, 0].mean()) if shuffled else None,
        by_class("vqa_score", yes, data.labels, data.groups) if data.labels else {},
        mean_of("vqa_yes_of_both", yes / (yes + no).clip(min=1e-12), data.groups),
    )


def other_captions(captions: Sequence[str], seed: int = 0) -> list[str]:
    """For each image a caption of another image that differs from its own; none where all agree."""
    if len(set(captions)) < 2:
        return []
    rng, every = np.random.default_rng(seed), list(captions)
    others = {own: [text for text in every if text != own] for own in set(every)}
    return [others[own][rng.integers(len(others[own]))] for own in every]
