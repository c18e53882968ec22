"""What leads to a patient, out of a table: after the basic profile of DICOM PS3.15, annex E.

Patients and examinations get keyed hashes, so that groups stay groups; names, addresses, dates and
free text go. Sex and age stay (the profile's option to retain patient characteristics), ages over 89
as 90. What stands in pixels is not looked at. docs/pairs.md says what is covered and what is not.
"""

import hmac
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vesalius.errors import VesaliusError
from vesalius.pairs.readers.columns import USUAL
from vesalius.pairs.splits import names_patient

OLDEST = 90  # years; who is older is rare enough to be found
_KEY_BYTES = 32
_HASHED = re.compile(r"id-[0-9a-f]{16}")

# Words of columns' names, and whole names without their gaps.
_DROPPED = set(
    [
        "surname",
        "forename",
        "firstname",
        "lastname",
        "maiden",
        "birth",
        "birthday",
        "birthdate",
        "dob",
        "birthplace",
        "address",
        "street",
        "city",
        "zip",
        "zipcode",
        "postcode",
        "phone",
        "telephone",
        "mobile",
        "fax",
        "email",
        "accession",
        "mrn",
        "ssn",
        "insurance",
        "physician",
        "doctor",
        "radiologist",
        "operator",
        "institution",
        "hospital",
        "occupation",
        "religion",
        "date",
        "datetime",
    ]
)
_OF_PERSON = set(
    ["patient", "person", "subject", "first", "last", "middle", "family", "given", "full", "mother"]
)
_DROPPED_WHOLE = set(
    [
        "name",
        "names",
        "patientname",
        "dateofbirth",
        "accessionnumber",
        "studydate",
        "seriesdate",
        "acquisitiondate",
        "contentdate",
        "examdate",
        "scandate",
        "studytime",
        "acquisitiontime",
    ]
)
# Free texts: they go, but the words in them are no names, and captions may say them too.
_DESCRIPTIONS = {"seriesdescription", "studydescription", "patientcomments", "imagecomments"}
_HASHED_WHOLE = {name.replace("_", "") for name in USUAL["group"].split()} | set(
    ["studyid", "caseid", "examid", "seriesid", "visitid", "encounterid"]
)
# Parts of names that name nobody.
_NOBODY = set(
    [
        "test",
        "train",
        "image",
        "patient",
        "subject",
        "anonymous",
        "anonymized",
        "unknown",
        "phantom",
        "none",
        "male",
        "female",
    ]
)
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DATE = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d([-/.])[01]?\d\1[0-3]?\d|[0-3]?\d([-/.])[0-3]?\d\2(?:19|20)\d\d)(?!\d)"
    r"(?:[ T]\d\d:\d\d(?::\d\d)?)?"
    # 20190302, but for digits in a hash; 3/2/19; 2 March 2019, 2-Mar-19; March 2, 2019
    r"|(?<![\da-f])(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?![\da-f])"
    r"|(?<![\d/])[0-3]?\d/[0-3]?\d/\d\d(?![\d/])"
    rf"|(?<!\d)[0-3]?\d(?:st|nd|rd|th)?(?:(?: of)? {_MONTH},? (?:19|20)\d\d|-{_MONTH}-(?:19|20)?\d\d)(?!\d)"
    rf"|\b{_MONTH} [0-3]?\d(?:st|nd|rd|th)?,? (?:19|20)\d\d(?!\d)",
    re.IGNORECASE,
)
_OLD = re.compile(r"(?<![\d.])(?:9\d|1[0-4]\d)(?=[ -]?(?:years?\b|yrs?\b|y/?o\b|y\.o\.))", re.I)
_AGE = re.compile(r"0*(\d{1,3})(?:\.\d+)?Y?", re.I)
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z0-9]+")
_IN_TEXTS = 4  # characters of the shortest value that is looked for outside of files' names
_IN_WORDS = 5  # of the shortest one that is also found inside of a word


@dataclass(frozen=True)
class Pseudonyms:
    """Keyed hashes (HMAC-SHA256) of names: the same name gets the same one under the same key."""

    key: bytes

    def of(self, name: str) -> str:
        """The hash of a name; one that is such a hash stays."""
        if _HASHED.fullmatch(name):
            return name
        return f"id-{hmac.digest(self.key, name.encode(), 'sha256').hex()[:16]}"

    def check(self) -> str:
        """Shows that two tables have the same key, without giving it away."""
        return hmac.digest(self.key, b"vesalius: check of the key", "sha256").hex()[:16]


def load_pseudonyms(path: Path | str | None) -> Pseudonyms:
    """Those of a key file; of a new random key where there is no file, which is not written yet.

    Raises VesaliusError for a file that is no key.
    """
    if path is None or not os.path.lexists(path):
        return Pseudonyms(secrets.token_bytes(_KEY_BYTES))
    try:
        key = bytes.fromhex(Path(path).read_text(encoding="ascii"))
    except OSError as error:
        raise VesaliusError(f"--identity-key {path} cannot be read: {error.strerror}") from error
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise VesaliusError(
            f"--identity-key {path} holds no key of `vesalius pairs`: name the file of an earlier "
            "run, or a new one"
        )
    return Pseudonyms(key)


def write_key(pseudonyms: Pseudonyms, path: Path | str) -> None:
    """Write the key where there is no file yet, for its owner's eyes only."""
    if os.path.lexists(path):
        return
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(pseudonyms.key.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise VesaliusError(f"--identity-key {path}: cannot write: {error.strerror}") from error


@dataclass(frozen=True)
class Cleaned:
    """What may be said of an image, and what was removed to get there."""

    attributes: dict[str, str]
    caption: str | None
    identities: tuple[str, ...]  # values that name the patient
    removed: tuple[str, ...]  # in words


@dataclass(frozen=True)
class Deidentifier:
    """Cleans the rows of a source; `group_columns` hold its groups beside the usual ones."""

    pseudonyms: Pseudonyms
    group_columns: tuple[str, ...] = ()

    def clean(
        self, attributes: Mapping[str, str], caption: str | None, identities: Iterable[str | None]
    ) -> Cleaned:
        """A row without what leads to its patient; `identities` are known to name the patient."""
        known = [text for text in identities if text]
        kept: dict[str, str] = {}
        removed: set[str] = set()
        for name, value in attributes.items():
            if self._is_identifier(name):
                kept[name] = self.pseudonyms.of(value)
                known.append(value)
                removed.add(f"{name} hashed")
            elif _is_dropped(name):
                if _plain(name) not in _DESCRIPTIONS and not _DATE.fullmatch(value):
                    known.append(value)
                removed.add(f"{name} removed")
            else:
                kept[name] = value
                if "age" in _words(name) and _clipped(value) != value:
                    kept[name] = _clipped(value)
                    removed.add("ages over 89 set to 90")
        values = _values(known, _IN_TEXTS)

        def plain(text: str) -> str:
            found = scrub(text, values, self.pseudonyms)
            dateless = _DATE.sub("", found)
            clipped = _OLD.sub(str(OLDEST), dateless)
            removed.update(["identity in a text hashed"] if found != text else [])
            removed.update(["dates in texts removed"] if dateless != found else [])
            removed.update(["ages over 89 set to 90"] if clipped != dateless else [])
            return clipped

        kept = {name: plain(value) for name, value in kept.items()}
        spoken = plain(caption) if caption else caption
        return Cleaned(kept, spoken, tuple(dict.fromkeys(known)), tuple(sorted(removed)))

    def _is_identifier(self, name: str) -> bool:
        plain = _plain(name)
        named = (_plain(column) for column in self.group_columns)
        return plain in _HASHED_WHOLE or plain.endswith("uid") or plain in named


def scrub(text: str, values: Mapping[str, str], pseudonyms: Pseudonyms) -> str:
    """`text` with hashes where `values` stand in it, by their lower case, in any case."""
    low = text.lower()
    for small, value in values.items():
        if small in low and not _HASHED.fullmatch(value):
            edge = "" if len(value) >= _IN_WORDS else r"(?<![^\W_])|(?![^\W_])"
            before, _, after = edge.partition("|")
            hashed = pseudonyms.of(value)
            text = re.sub(before + re.escape(small) + after, hashed, text, flags=re.IGNORECASE)
            low = text.lower()
    return text


def without_identities(
    keys: Sequence[str], identities: Sequence[str | None], pseudonyms: Pseudonyms
) -> list[str]:
    """Files' names without dates and what names the patient; `identities` of a row are lines, None for none."""

    def hashed(date: re.Match[str]) -> str:  # not removed: keys stay distinct
        is_path = re.fullmatch(r"\d+/\d+/\d\d", date[0])  # of numbered folders
        return date[0] if is_path else pseudonyms.of(date[0])

    def plain(key: str, lines: str) -> str:
        dateless = _DATE.sub(hashed, key)
        return scrub(dateless, _values(lines.split("\n"), 1), pseudonyms)

    return [
        key if lines is None else plain(key, lines)
        for key, lines in zip(keys, identities, strict=True)
    ]


def hidden_groups(
    sources: Sequence[str],
    groups: Sequence[str],
    sha1s: Sequence[str],
    identities: Sequence[str | None],
    pseudonyms: Pseudonyms,
) -> dict[str, str]:
    """What each group is called in the table: `SOURCE/HASH` for `SOURCE/PATIENT`.

    Groups of rows without a patient, and of sources that stay as they are, keep their names.
    """
    hidden = {}
    known = names_patient(sources, groups, sha1s)
    for source, group, named, lines in zip(sources, groups, known, identities, strict=True):
        if named and lines is not None:
            of = source if group.startswith(f"{source}/") else group.partition("/")[0]
            name = group.removeprefix(f"{of}/")
            hidden[group] = f"{of}/{pseudonyms.of(name)}" if name else group
    return hidden


def swept(document: Any, identities: Iterable[str | None], pseudonyms: Pseudonyms) -> Any:
    """What JSON holds, without the identities in its texts."""
    lines = {line for some in identities for line in (some or "").split("\n")}
    text = json.dumps(document, ensure_ascii=False, default=str).lower()
    present = {k: v for k, v in _values(lines, _IN_TEXTS).items() if json.dumps(k)[1:-1] in text}

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: walk(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [walk(inner) for inner in value]
        return scrub(value, present, pseudonyms) if isinstance(value, str) else value

    return walk(document) if present else document


def _values(identities: Iterable[str], least: int) -> dict[str, str]:
    """Identities and, of persons' names, their parts, by their lower case, the longest first."""
    every = dict.fromkeys(identities)
    for value in tuple(every):
        words = [part for part in re.split(r"[\^=,\s]+", value) if part]
        parts = [part for part in words if len(part) > 2]
        every |= dict.fromkeys(parts if len(parts) > 1 else ())
        if "^" in value and len(words) > 1:  # as it stands in a report, however short its parts are
            (last, first), rest = words[:2], words[2:]
            spoken = (f"{first} {last}", f"{last} {first}", f"{last}, {first}")
            every |= dict.fromkeys([*spoken, " ".join([first, *rest, last])])
    found = [v for v in every if len(v) >= least and v.lower() not in _NOBODY]
    return {value.lower(): value for value in sorted(found, key=len, reverse=True) if value}


def _is_dropped(name: str) -> bool:
    words = _words(name)
    named = bool({"name", "names"} & words and _OF_PERSON & words)
    return bool(_DROPPED & words) or named or _plain(name) in _DROPPED_WHOLE | _DESCRIPTIONS


def _words(name: str) -> set[str]:
    return {word.lower() for word in _WORDS.split(name) if word}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _clipped(age: str) -> str:
    """An age in years, at most 90; what is no age stays."""
    match = _AGE.fullmatch(age)
    return str(OLDEST) if match and int(match[1]) >= OLDEST else age
