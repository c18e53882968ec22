"""The texts that readers see, as `build` writes them into a protocol; all of them may be edited there."""

from vesalius.study.protocol import TaskName

QUESTIONS: dict[TaskName, str] = {
    "turing": "Is this image real or synthetic?",
    "pair": "One of these two images is real. Which one?",
    "quality": "How good is this image for a diagnosis?",
    "alignment": "How well does the image show what the text says?",
    "diagnosis": "What does this image show?",
}
UNAWARE_TITLE = "Medical images"  # readers see it: a folder's name may tell
PREFERENCE = "Which of these two images is better?"
ANCHORS: dict[TaskName, dict[int, str]] = {
    "quality": {
        1: "useless: no diagnosis is possible",
        2: "poor: structures that matter cannot be seen",
        3: "fair: a diagnosis is possible with doubt",
        4: "good: small faults that do not matter",
        5: "excellent: as a textbook would show it",
    },
    "alignment": {
        1: "shows something else",
        2: "shows little of the text",
        3: "shows about half of the text",
        4: "shows all but a detail",
        5: "shows all of the text",
    },
}
QUESTION = (
    "Can readers tell synthetic images from real ones, and are synthetic images worth as much?"
)
_RIGHTS = (
    "Taking part is voluntary. You may stop at any time without giving a reason, and nobody will see your "
    "answers under your name: they are kept under a code. What is kept are your answers, how long each "
    "took, how you used the viewer, and what you say about your experience."
)
CONSENT = (
    "You will look at medical images and answer questions about them. Some of the images may have been "
    f"made by a computer. {_RIGHTS}"
)
UNAWARE_CONSENT = (
    "You will look at medical images and answer questions about them. Not everything about the images is "
    f"said at the beginning; the rest is explained during the study. {_RIGHTS}"
)
