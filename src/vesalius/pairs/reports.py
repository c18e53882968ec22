"""Free-text reports: the part about the image, without placeholders and phrases that say nothing.

De-identification leaves holes ("The XXXX are normal."). A sentence is mended where only an adjective
or a "likely" is gone, and dropped whole where nobody can tell what it said: a caption may say less
than its report, never something else.
"""

import re
from collections.abc import Callable, Iterator, Sequence

FINDINGS, IMPRESSION = "FINDINGS", "IMPRESSION"

# Spelling of a header -> its name.
_HEADERS = {
    "FINDING": FINDINGS,
    "FINDINGS AND IMPRESSION": FINDINGS,
    "FINDINGS/IMPRESSION": FINDINGS,
    "FINDINGS": FINDINGS,
    "IMAGING NOTES": FINDINGS,
    "IMAGING FINDINGS": FINDINGS,
    "DESCRIPTION": FINDINGS,
    "IMPRESSION": IMPRESSION,
    "IMPRESSIONS": IMPRESSION,
    "CONCLUSION": "CONCLUSION",
    "CONCLUSIONS": "CONCLUSION",
    "OPINION": "CONCLUSION",
    "INDICATION": "INDICATION",
    "INDICATIONS": "INDICATION",
    "REASON FOR EXAM": "INDICATION",
    "REASON FOR EXAMINATION": "INDICATION",
    "PRESENTATION": "INDICATION",
    "COMPARISON": "COMPARISON",
    "COMPARISONS": "COMPARISON",
    "TECHNIQUE": "TECHNIQUE",
    "PROCEDURE": "TECHNIQUE",
    "VIEWS": "TECHNIQUE",
    "EXAM": "EXAMINATION",
    "EXAMINATION": "EXAMINATION",
    "STUDY": "EXAMINATION",
    "DATE": "DATE",
    "HISTORY": "HISTORY",
    "CLINICAL HISTORY": "HISTORY",
    "MEDICAL HISTORY": "HISTORY",
    "PAST MEDICAL HISTORY": "HISTORY",
    "CLINICAL INFORMATION": "HISTORY",
    "CLINICAL DETAILS": "HISTORY",
    "DISCUSSION": "DISCUSSION",
    "CASE DISCUSSION": "DISCUSSION",
    "RECOMMENDATION": "RECOMMENDATION",
    "RECOMMENDATIONS": "RECOMMENDATION",
    "NOTIFICATION": "NOTIFICATION",
    "ADDENDUM": "ADDENDUM",
    "FINAL REPORT": "REPORT",
    "REPORT": "REPORT",
    "WET READ": "REPORT",
}
_NAMES = "|".join(name.replace(" ", r"[ ]+") for name in sorted(_HEADERS, key=len, reverse=True))
_HEADER = re.compile(
    rf"(?:^|(?<=[\s.:]))(?P<colon>{_NAMES})[ \t]*:|^[ \t]*(?P<line>{_NAMES})[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)

_HOLE = "XXXX"
_PLACEHOLDER = re.compile(
    r"\[\*\*.*?\*\*\]|<[A-Za-z][^<>]{0,40}>|\[[A-Z][A-Z _-]*\]|\b[xX]{2}/[xX]{2}/[xX]{2,4}\b"
    r"|_{2,}|[^\W_]*X{3,}[^\W_]*",  # with what is glued to it: half a word or number says nothing
    re.DOTALL,
)
# What may follow a hole without its sentence losing meaning: the hole was an adjective...
_DESCRIBED = re.compile(
    r"(?:abnormal|acute|air ?space|atelecta|basilar|bibasilar|bilateral|calcif|cardio|catheter"
    r"|chronic|consolidat|deform|degenerat|densit|edema|effusion|elevat|emphysem|fissure|fluid"
    r"|focal|fractur|granulom|hyperinfl|infiltrat|interstitial|large|left|linear|lingul|lobe"
    r"|lower|lucen|lung|mass|mild|moderate|nodul|opaci|patchy|pleural|pneumo|prominen|pulmonary"
    r"|retrocardiac|right|scar|small|sternotomy|streaky|subsegmental|thicken|thoracic|upper"
    r"|vascular)",
    re.IGNORECASE,
)
_BEFORE_ADJECTIVE = re.compile(
    r"(?:^|\b(?:no|any|an?|the|there (?:is|are|was|were)|has|with|without|of|for|by|versus|vs|some"
    r"|few|several|mild|minimal|moderate|severe|small|large|left|right|bilateral|new|old|stable))$",
    re.IGNORECASE,
)
# ...or the "likely" before these.
_LIKELY = re.compile(r"(?:represent|reflect|suggest|correspond|due|related|secondary)", re.I)

_BOILERPLATE = re.compile(
    r"^(?:no )?(?:prior |previous )?comparisons?\b|\bfor comparison\b|^none[ .]*$|^as above\b"
    r"|^(?:the )?(?:findings|impression) (?:are |is )?as above|^see above"
    r"|\b(?:dictated|transcribed) by\b|\belectronically signed\b|\bsigned by\b"
    r"|\bI have (?:personally )?reviewed\b|\bI,? .{0,40}attending\b|\bteaching physician\b"
    r"|\bdiscussed (?:with|by)\b|\b(?:was|were|been) (?:notified|informed|communicated|paged)\b"
    r"|\bnotif(?:ied|ication)\b|\btelephoned?\b|\bcritical result|\blike to discuss\b|\bplease\b"
    r"|^chest$|^\d+ (?:images?|views?)$|^if .*\b(?:consider|recommend)"
    r"|^technique\b|\bviews? (?:of the chest )?(?:was|were|are|is) (?:obtained|provided|submitted)"
    r"|\bexamination (?:consists of|was obtained)|\b(?:radiographs?|images?) (?:were|was) obtained"
    r"|^(?:recommend|consider\b|correlat|clinical correlation|suggest (?:ct|correlat|follow))"
    r"|^follow[- ]?up\b.*\b(?:recommended|suggested|advised|helpful|needed|warranted)\b",
    re.IGNORECASE,
)
# "Compared with the study of XXXX, the opacity has grown" keeps what follows the comma.
_COMPARING = re.compile(
    r"^(?:as |when )?(?:compared|in comparison|comparison is made|since)\b[^,;]*[,;]\s*",
    re.IGNORECASE,
)
_REFERENCE = re.compile(
    r"\s*\((?:see\s+)?(?:(?:fig|image|arrow|panel)[^()]*|[a-hA-H](?:\s?\W\s?[a-hA-H])?)\)",
    re.IGNORECASE,
)
_NUMBERING = re.compile(
    r"^\s*(?:\(?\d{1,2}[.)](?=\s|[A-Z])|\(?[a-hA-H][.)](?=\s?[A-Z])|[-*•](?=\s))\s*"
)

_NEVER_ENDS = re.compile(r"dr|mr|mrs|ms|prof|st|vs|figs?|e\.g|i\.e|esp|approx|[a-z]")
_SELDOM_ENDS = re.compile(r"cm|mm|ca|resp|incl|nos?|inc|wt|ht|yrs?|hrs?")  # not before a capital
_BREAK = re.compile(r"(?<=[.!?])([\"')\]]*)\s+|(?<=[a-z]{2}\.)(?=[A-Z][a-z])")
_BLOCK = re.compile(r"\n\s*\n|\n(?=\s*(?:\(?\d{1,2}[.)]|[-*•])\s)")

_NORMAL = re.compile(
    r"^(?:there (?:is|are|has been|have been) )?(?:no|negative)\b"
    r"|\b(?:normal|unremarkable|clear|intact|is no|are no|without evidence)\b",
    re.IGNORECASE,
)


def sections(text: str) -> dict[str, str]:
    """The parts of a report by their header, in upper case; what stands before one is under "".

    A header is a known name followed by a colon, or alone on its line. Spellings of one name are
    taken together ("FINDING", "Findings"), and so are sections that come twice.
    """
    found: dict[str, str] = {}
    name, at = "", 0
    for match in [*_HEADER.finditer(text), None]:
        spelled = match and (match["colon"] or match["line"])
        if spelled and not spelled[0].isupper():  # "a past medical history: ..." is a sentence
            continue
        if part := text[at : match.start() if match else len(text)].strip():
            found[name] = f"{found[name]}\n{part}" if name in found else part
        if match and spelled:
            name, at = _HEADERS[" ".join(spelled.upper().split())], match.end()
    return found


def image_text(text: str) -> str:
    """What a report says about the image: findings and impression, or all where no header is."""
    return "\n".join(part for _, part in _image_parts(text))


def clean(text: str) -> str:
    """A text without placeholders, boilerplate, numbering and figure references.

    What is left are whole sentences with no hole in them; it may be empty.
    """
    return " ".join(_clean_sentences(text))


def sentences(text: str) -> list[str]:
    """A text in sentences, each on one line; "Dr.", "2 cm. in", "1.5" and "e.g." end none."""
    found = []
    for block in _BLOCK.split(text):
        flat, start = " ".join(block.split()), 0
        for match in _BREAK.finditer(flat):
            end = match.start() + len(match[1] or "")
            if _ends(flat[start:end], flat[match.end() : match.end() + 1]):
                found.append(flat[start:end])
                start = match.end()
        found.append(flat[start:])
    return [sentence for sentence in found if re.search(r"\w", sentence)]


def shorten(text: str, fits: Callable[[str], bool], informative: Sequence[str] = ()) -> str:
    """The sentences of a report that say most about the image, as many as `fits` allows.

    Preferred are sentences with a word (or a part of one) from `informative`, then those that find
    something before those that find it normal, then the impression before the findings, then the
    earlier. They stay in the report's order, and a sentence said twice is taken once. Where no
    sentence fits whole, the best one is cut at a word.
    """
    found: list[tuple[str, bool]] = []  # a sentence, and whether it is of the findings
    for section, part in _image_parts(text):
        said = {_plain(sentence) for sentence, _ in found}
        for sentence in _clean_sentences(part):
            if _plain(sentence) not in said:
                said.add(_plain(sentence))
                found.append((sentence, section == FINDINGS))

    def worth(index: int) -> tuple[bool, bool, bool, int]:
        sentence, of_findings = found[index]
        lower = sentence.lower()
        dull = bool(informative) and not any(word.lower() in lower for word in informative)
        return dull, bool(_NORMAL.search(sentence)), of_findings, index

    ranked = sorted(range(len(found)), key=worth)
    chosen: list[int] = []
    for index in ranked:
        longer = sorted([*chosen, index])
        if fits(" ".join(found[i][0] for i in longer)):
            chosen = longer
    if chosen or not ranked:
        return " ".join(found[i][0] for i in chosen)
    words = found[ranked[0]][0].split()
    while words and not fits(" ".join(words)):
        words.pop()
    return " ".join(words).rstrip(",;:")


def _image_parts(text: str) -> list[tuple[str, str]]:
    parts = sections(text)
    wanted = [FINDINGS, IMPRESSION, "CONCLUSION"]
    if FINDINGS not in parts:  # what no header names is the findings
        wanted = ["", "REPORT", *wanted]
    return [(name, parts[name]) for name in wanted if name in parts]


def _ends(before: str, following: str) -> bool:
    """Whether the full stop at the end of `before` ends a sentence."""
    bare = before.rstrip("\"')]")
    if bare.endswith(("!", "?")):  # "38?C" and "0 ? 10" are characters that an encoding lost
        return bare[-2:-1].isalpha() and not following.isdigit()
    last = re.split(r"[\s(]", bare.rstrip("."))[-1].lower()
    numbering = re.fullmatch(r"\s*\(?\d{1,2}[.)]", before)
    if numbering or _NEVER_ENDS.fullmatch(last):
        return False
    return not (_SELDOM_ENDS.fullmatch(last) and (following.islower() or following.isdigit()))


def _clean_sentences(text: str) -> Iterator[str]:
    text = re.sub(r"\b([xX])-X{3,}", r"\1-ray", text)  # taken for a name by de-identification
    text = _REFERENCE.sub("", _PLACEHOLDER.sub(_HOLE, text))
    for sentence in sentences(text):
        whole = _mend(_NUMBERING.sub("", sentence.strip(" .,;:")).strip(" .,;:"))
        if re.search(r"[^\W\d]{2}", whole) and not _BOILERPLATE.search(whole):
            yield whole[0].upper() + whole[1:] + ("" if whole[-1] in "!?" else ".")


def _mend(sentence: str) -> str:
    """A sentence without its holes, "" where it lost its meaning with them."""
    if shorter := _COMPARING.sub("", sentence):
        sentence = shorter
    if _HOLE not in sentence:
        return sentence
    sentence = re.sub(rf"\s*\([^()]*{_HOLE}[^()]*\)", "", sentence)
    sentence = re.sub(rf"{_HOLE}(?:\s+{_HOLE})+", _HOLE, sentence)
    sentence = re.sub(rf"\b(no|without) {_HOLE} of (?:an? )?", r"\1 ", sentence, flags=re.I)
    words = sentence.split()
    for at, word in enumerate(words):
        if _HOLE not in word:
            continue
        before = " ".join(words[max(0, at - 2) : at])
        after = words[at + 1] if at + 1 < len(words) else ""
        if word == _HOLE and at and _LIKELY.match(after):
            words[at] = "likely"
        elif word == _HOLE and _BEFORE_ADJECTIVE.search(before) and _DESCRIBED.match(after):
            words[at] = ""
        else:
            return ""
    return " ".join(filter(None, words))


def _plain(sentence: str) -> str:
    return re.sub(r"\W+", " ", sentence).strip().lower()
