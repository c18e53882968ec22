"""The contrastive loss, and figures of how well texts and images, or labels, are distinguished."""

import torch
from torch import Tensor
from torch.nn import functional as F


def contrastive_loss(
    text: Tensor, image: Tensor, scale: Tensor, caption: Tensor, label: Tensor | None = None
) -> Tensor:
    """Symmetric InfoNCE of B pairs of unit vectors (B, W) with captions numbered (B,).

        logits = scale * image @ text.T,    loss = (CE(logits, p) + CE(logits.T, p)) / 2

    Pairs with the same caption are no negatives of each other, as they would be in CLIP: p is the
    identity where all captions differ, and otherwise a row's share is divided among its equals
    (Khosla et al. 2020, https://arxiv.org/abs/2004.11362). With labels, numbered (B,), pairs of one
    label are equals too, whatever their captions.
    """
    logits = scale * image @ text.T  # (B, B)
    same = caption[:, None] == caption
    if label is not None:
        same = same | (label[:, None] == label)
    target = same.to(logits.dtype)
    target = target / target.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def recall(text: Tensor, image: Tensor, caption: Tensor, k: int) -> Tensor:
    """Share of queries with a right answer among the k nearest, the mean of both directions.

    `text` (U, W) holds each distinct caption once, `image` (N, W) has caption `caption` (N,). An
    image looks for its caption among the U, a caption for any of its images among the N.
    """
    cosine = image @ text.T  # (N, U)
    texts = cosine.topk(min(k, cosine.shape[1]), dim=1).indices  # (N, k)
    images = cosine.topk(min(k, cosine.shape[0]), dim=0).indices  # (k, U)
    found_text = (texts == caption[:, None]).any(1)
    found_image = (caption[images] == torch.arange(len(text), device=text.device)).any(0)
    return (found_text.float().mean() + found_image.float().mean()) / 2


def label_recall(text: Tensor, image: Tensor, caption: Tensor, label: Tensor) -> Tensor:
    """Share of images (N, W) whose nearest caption of the U stands at an image of their label.

    Both are numbered, `caption` (N,) from 0 to U - 1 and `label` (N,).
    """
    label = label.unique(return_inverse=True)[1]
    stands = torch.zeros(len(text), int(label.max()) + 1, dtype=torch.bool, device=text.device)
    stands[caption, label] = True
    return stands[(image @ text.T).argmax(1), label].float().mean()


def label_separation(states: Tensor, source: Tensor, label: Tensor) -> float | None:
    """How far captions of different labels are apart, in the distance of phrasings of one label.

        the mean over sets of   mean |x_i - x_j| of unlike labels / mean |x_i - x_j| of one label

    `states` (U, D) are of captions, `source` and `label` (U,) numbered. 1: the states do not tell
    the labels. Sets with one label, or one caption a label, do not count; None where none does.
    """
    ratios = []
    for name in source.unique():
        x, own = states[source == name].float(), label[source == name]
        distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        same = own[:, None] == own
        within = distance[same & ~torch.eye(len(x), dtype=torch.bool, device=x.device)]
        between = distance[~same]
        if len(within) and len(between) and within.mean() > 0:
            ratios.append(between.mean() / within.mean())
    return torch.stack(ratios).mean().item() if ratios else None
