"""preregistration.md: what was decided before the first reading, to hand in at a registry or ethics board."""

from collections.abc import Iterator, Mapping
from typing import Any

from vesalius.study.protocol import UNAWARE_TASKS, Protocol, Task

_COUNTS = {
    "turing": (
        "Accuracy, sensitivity, specificity, the share of synthetic images taken for real, the AUC of the "
        "six levels of confidence, d' and the criterion c. The arms are called indistinguishable if the 90 % "
        "interval of accuracy lies within {margin:g} of .5 and at least 80 % of the gross fakes were called "
        "synthetic; distinguishable if the 95 % interval lies above .5; otherwise neither is shown."
    ),
    "pair": (
        "The share of pairs in which the real image was chosen, and d'. The arms are called "
        "indistinguishable if the 90 % interval of that share lies within {margin:g} of .5 and at least "
        "80 % of the gross fakes were found; the real-real pairs show a preference for a side."
    ),
    "preference": (
        "The strength of each arm by a Bradley-Terry model with ties (Davidson). The arms are called equal if "
        "the 90 % interval of the share that preferred the real image, ties counted half, lies within "
        "{margin:g} of .5."
    ),
    "quality": (
        "The mean grade of each arm and the difference of synthetic from real ones; agreement by weighted "
        "kappa and Krippendorff's alpha. Synthetic images are called no worse if the lower end of the "
        "interval of the difference, as a share of the scale, is above -{margin:g}."
    ),
    "alignment": (
        "The mean grade of each arm, the difference, and which words were called wrong. Synthetic images are "
        "called no worse if the lower end of the interval of the difference, as a share of the scale, is "
        "above -{margin:g}."
    ),
    "diagnosis": (
        "The share of right diagnoses on each arm. Synthetic images are called no worse if the lower end of "
        "the interval of the difference is above -{margin:g}."
    ),
}


def preregistration(
    protocol: Protocol,
    built: Mapping[str, Any],
    checked: Mapping[str, Any],
    document: Mapping[str, Any],
    hash: str,
) -> str:
    """The page, in Markdown. `document` is the lock, whose hash is `hash`."""
    parts = [
        f"# {protocol.title}: a blinded reader study",
        f"Locked on {document['time']}. Study `{document['study']}`, made with vesalius "
        f"{document['version']}; SHA-256 of its lock: `{hash}`. After this nothing of protocol, images, key "
        "or trials can change without being found, and no answer was given before.",
        f"## Question\n\n{protocol.question}",
        f"## Images\n\n{_images(protocol, built)}",
        f"## Left out\n\n{_excluded(built)}",
        f"## Design\n\n{_design(protocol)}",
        "## Tasks\n\n" + "\n\n".join(_task(task) for task in protocol.tasks),
        f"## Analysis\n\n{_analysis(protocol)}",
        f"## Blinding\n\n{_blinding(protocol, checked, document)}",
        f"## Power\n\n{_power(document)}",
        f"## What readers are told\n\n> {protocol.consent.strip()}",
        *([f"## To know\n\n{_list(built['warnings'])}"] if built["warnings"] else []),
    ]
    return "\n\n".join(parts) + "\n"


def _list(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _images(protocol: Protocol, built: Mapping[str, Any]) -> str:
    counts = [f"{arm}: {number}" for arm, number in built["images"].items()]
    pixels = protocol.pixels
    lines = [
        f"Real images: of the splits {', '.join(built['splits'])} of {built['real']}, one a patient, "
        "never mirrored; no image or patient that a generator is known to have learned from.",
        "Synthetic images: drawn by seed from all of "
        + ", ".join(f"{path} ({name})" for name, path in built["synthetic"].items())
        + ", matched with real ones by label, by prompt where there is one, and by "
        + ", ".join(built["match"]) + " where all arms have them.",
        "Images of each arm: " + ", ".join(counts) + ".",
        f"All images have {pixels.width} x {pixels.height} pixels, "
        f"{'grey' if pixels.grey else 'colour'}, 8 bits, decoded, resized and written in one way"
        + (f", after one last JPEG of quality {pixels.quality}." if pixels.lossy else "."),
    ]  # fmt: skip
    if built["reconstruct"]:
        lines.append(
            f"Reconstructed: other real images through the autoencoder of {built['reconstruct']}."
        )
    if built["reuse"]:
        lines.append("An image may come again in another task; never in the same, but for repeats.")
    return _list(lines)


def _excluded(built: Mapping[str, Any]) -> str:
    lines = [
        f"{arm}: {number} ({why})"
        for arm, reasons in built["excluded"].items()
        for why, number in reasons.items()
    ]
    return _list(lines) if lines else "Nothing."


def _design(protocol: Protocol) -> str:
    readers = protocol.readers
    special = sorted({reader.specialty for reader in readers} - {""})
    lines = [
        f"{len(readers)} readers"
        + (f" ({', '.join(special)})" if special else "")
        + ", each of whom "
        "reads every task that is for them; no reader is left out of the analysis who has finished.",
        "The order is decided by the seed "
        f"{protocol.seed} and the reader: tasks in a Williams square, arms in permuted blocks of changing "
        "size, sides of pairs balanced within a reader and reversed for the next.",
        f"{protocol.training} training cases before each task, with the right answer shown where there is "
        "one, the same for all readers, not analysed and shown nowhere else.",
        f"A break is offered after {protocol.break_after.trials} trials or {protocol.break_after.minutes} "
        "minutes.",
    ]
    if protocol.unaware_first:
        lines.append(
            f"Half of {' and '.join(UNAWARE_TASKS)} is read before readers are told that some images are "
            "synthetic, the other half after; which half comes first alternates from reader to reader."
        )
    return _list(lines)


def _task(task: Task) -> str:
    shown = "each a real image beside another" if task.task == "pair" else "half of the images real"
    facts = [f"{task.trials} scored trials of each reader, {shown}"]
    if task.repeats:
        facts.append(f"{100 * task.repeats:g} % of them again, a third of the task or more later")
    if task.fakes:
        facts.append(f"{task.fakes} gross fakes")
    if task.same:
        facts.append(f"{round(task.same * task.trials)} real-real pairs")
    if task.specialty:
        facts.append(f"only for {task.specialty}")
    lines = [f"### {task.task}", f"*{task.question}*", _list(facts)]
    if task.anchors:
        lines.append(_list([f"{grade}: {words}" for grade, words in sorted(task.anchors.items())]))
    if task.labels:
        lines.append(f"Offered: {', '.join(task.labels)}.")
    preferred = task.task == "pair" and task.compare == "preference"
    lines.append(_COUNTS["preference" if preferred else task.task].format(margin=task.margin))
    return "\n\n".join(lines)


def _analysis(protocol: Protocol) -> str:
    few = len(protocol.readers) < 3
    lines: Iterator[str] = iter((
        "With fewer than three readers they are fixed: results hold for these readers only."
        if few
        else "Readers and cases are random (Obuchowski-Rockette-Hillis): results hold for such readers "
        "and such images.",
        "Not finding a difference is not equality: equality is shown by an interval inside the margin.",
        "Of each trial the last answer counts. Repeats count for agreement, not for accuracy; training, "
        "gross fakes and real-real pairs count for nothing but what is said of them above.",
        "Also reported: repeat agreement, median time, change from the first to the second half, by arm, "
        "specialty and years of experience.",
    ))  # fmt: skip
    return _list(list(lines))


def _blinding(protocol: Protocol, checked: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    lines = [
        f"A logistic regression on features of the files tells {arm['arm']} from real images with an AUC of "
        f"{arm['auc']['value']:.2f} ({arm['auc']['low']:.2f} to {arm['auc']['high']:.2f}); .5 is chance."
        for arm in checked["arms"]
    ]
    despite = document["despite"]
    lines += [f"Found: {reason}." for reason in despite["reasons"]]
    if despite["reasons"]:
        lines.append(f"Locked all the same, because: {despite['reason']}")
    lines.append(
        "The key is in a file of its own, which the program that shows the images never opens; addresses "
        "of images are random and differ from reader to reader."
    )
    return _list(lines)


def _power(document: Mapping[str, Any]) -> str:
    if document["power_looked_at"]:
        return document.get("power") or "It was looked at before the lock: see power.json."
    return "It was not looked at before the lock."
