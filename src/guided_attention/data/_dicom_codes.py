"""SNOMED CT codes of organs, by the words of their names."""

from collections.abc import Mapping

from guided_attention._sides import words_of

__all__ = ["coded"]

_CODES: Mapping[str, tuple[str, str]] = {
    "liver": ("10200004", "Liver"),
    "right kidney": ("9846003", "Right kidney"),
    "left kidney": ("18639004", "Left kidney"),
    "spleen": ("78961009", "Spleen"),
    "pancreas": ("15776009", "Pancreas"),
    "stomach": ("69695003", "Stomach"),
    "gallbladder": ("28231008", "Gallbladder"),
    "aorta": ("15825003", "Aorta"),
    "heart": ("80891009", "Heart"),
    "left atrium": ("82471001", "Left atrium"),
    "right atrium": ("73829009", "Right atrium"),
    "left ventricle": ("87878005", "Left ventricle"),
    "right ventricle": ("53085002", "Right ventricle"),
    "prostate": ("41216001", "Prostate"),
    "bladder": ("89837001", "Urinary bladder"),
    "lung": ("39607008", "Lung"),
    "brain": ("12738006", "Brain"),
}
"""SNOMED CT codes of anatomical structures by name; others are coded as "Organ"."""
_ORGAN, _ANATOMY = ("113343008", "Organ"), ("123037004", "Anatomical Structure")
_LESION, _ALTERED = ("52988006", "Lesion"), ("49755003", "Morphologically Altered Structure")
_LESION_WORDS = {
    "cyst",
    "edema",
    "gtv",
    "lesion",
    "lesions",
    "metastasis",
    "neoplasm",
    "nodule",
    "tumor",
    "tumour",
}


def coded(name: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return category and type of an organ, whatever the order of the words in its name: ``kidney_left``."""
    words = set(words_of(name))
    if words & _LESION_WORDS:
        return _ALTERED, _LESION
    return _ANATOMY, next((code for known, code in _CODES.items() if set(known.split()) == words), _ORGAN)
