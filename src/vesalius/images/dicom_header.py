"""What a DICOM header says about its image, and whether it still says who the patient is."""

import io
import re
import warnings
from collections.abc import MutableSequence
from importlib import import_module
from typing import Any

from vesalius.core.optional import need

# What attributes a header gives, and the keywords they are taken from, the first that is filled.
ATTRIBUTES = {
    "patient_id": ("PatientID",),
    "modality": ("Modality",),
    "body_part": ("BodyPartExamined",),
    "sex": ("PatientSex",),
    "age": ("PatientAge",),
    "view": ("ViewPosition",),
    "laterality": ("ImageLaterality", "Laterality"),
    "series_description": ("SeriesDescription",),
    "burned_in": ("BurnedInAnnotation",),
}
# Tags that name somebody or lead to them: the most telling of those that the basic profile of
# PS3.15 annex E removes or replaces.
IDENTITY_TAGS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientBirthName",
    "PatientMotherBirthName",
    "OtherPatientIDs",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "CountryOfResidence",
    "RegionOfResidence",
    "EthnicGroup",
    "Occupation",
    "MilitaryRank",
    "MedicalRecordLocator",
    "PatientInsurancePlanCodeSequence",
    "PatientComments",
    "ResponsiblePerson",
    "AccessionNumber",
    "StudyID",
    "AdmissionID",
    "ReferringPhysicianName",
    "ReferringPhysicianAddress",
    "ReferringPhysicianTelephoneNumbers",
    "RequestingPhysician",
    "PerformingPhysicianName",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "OperatorsName",
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionalDepartmentName",
    "StationName",
    "DeviceSerialNumber",
)
# Of these, words that say who somebody is only together with others, and stand in any report ("white",
# "chest"): they are removed, but not looked for elsewhere.
_WORDS = {
    "EthnicGroup",
    "Occupation",
    "MilitaryRank",
    "PatientComments",
    "CountryOfResidence",
    "RegionOfResidence",
    "InstitutionalDepartmentName",
}
# What programs that remove names write in place of a PatientID, without gaps: it is nobody's.
_NOBODY = re.compile(
    r"anon|anonym(ous|i[sz]ed)?(patient)?|patient|noname|unknown|none|na|noid|removed|deidentified|0+"
)
# Others whose values may stand in files' names.
_LEADS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "StudyDate", "SeriesDate")

_AGE = re.compile(r"([0-9]{1,3})([DWMY])")
_DAYS = {"D": 1, "W": 7, "M": 30.4375, "Y": 365.25}


def attributes(dataset: Any) -> dict[str, str]:
    """The attributes of `ATTRIBUTES` that the header fills; `age` in whole years.

    No name, date, address or number of an examination is among them. Synthetic images have no
    patient, and neither does a PatientID such as ANONYMOUS: what stands in for one would make a
    single group of a whole set.
    """
    found: dict[str, str] = {}
    for name, keywords in ATTRIBUTES.items():
        for keyword in keywords:
            if text := str(dataset.get(keyword) or "").strip():
                found.setdefault(name, text)
    if age := years(found.pop("age", "")):
        found["age"] = age
    if _NOBODY.fullmatch(re.sub(r"[\W_]", "", found.get("patient_id", "x").lower())):
        del found["patient_id"]
    if found.pop("burned_in", "").upper() == "YES":
        found["burned_in"] = "yes"
    if is_synthetic(dataset):
        found.pop("patient_id", None)
        found["synthetic"] = "true"
    return found


def is_synthetic(dataset: Any) -> bool:
    """Whether the header says that the image was generated (Synthetic Data, 0008,001C)."""
    return str(dataset.get("SyntheticData") or "").upper() == "YES"


def identity_tags(dataset: Any) -> list[str]:
    """The keywords of `IDENTITY_TAGS` that a pydicom Dataset fills; never their values.

    A pseudonym looks like a name: a PatientID counts as filled whatever it holds.
    """
    if is_synthetic(dataset):
        return []
    return [
        keyword
        for keyword in IDENTITY_TAGS
        if keyword in dataset and str(dataset.get(keyword) or "").strip() not in ("", "[]")
    ]


def identities(dataset: Any) -> tuple[str, ...] | None:
    """What the tags of `IDENTITY_TAGS` hold, and others that stand in files' names, to remove it there.

    None for a synthetic image, which has no patient.
    """
    if is_synthetic(dataset):
        return None
    tags = [tag for tag in (*identity_tags(dataset), *_LEADS) if tag not in _WORDS]
    values = [dataset.get(tag) for tag in tags if tag in dataset and not tag.endswith("Sequence")]
    every = (v for value in values for v in (value if _is_several(value) else [value]))
    return tuple(dict.fromkeys(line for one in every if (line := " ".join(str(one or "").split()))))


def _is_several(value: Any) -> bool:
    return isinstance(value, MutableSequence)


def image_comments(content: bytes) -> str:
    """The ImageComments of a DICOM file's content; empty where there are none.

    Raises VesaliusError where pydicom is missing, ValueError for a file that is cut short, and for
    damaged ones whatever pydicom does.
    """
    pydicom = need("pydicom", "dicom")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(io.BytesIO(content))
        needed = 1  # bytes
        if not dataset.file_meta.TransferSyntaxUID.is_compressed:
            needed = import_module("pydicom.pixels.utils").get_expected_length(dataset)
    if len(dataset.get("PixelData", b"")) < needed:
        raise ValueError("DICOM without an image, or cut short")
    return str(dataset.get("ImageComments") or "")


def years(age: str) -> str:
    """An age string such as 063Y or 018M in whole years; empty where it is none."""
    match = _AGE.fullmatch(age.upper())
    return str(int(int(match[1]) * _DAYS[match[2]] / _DAYS["Y"] + 1e-9)) if match else ""
