"""Files of a folder that look like scans and belong to no case: they are told, never dropped without a word."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from guided_attention._checks import counted, cut_list
from guided_attention.data._dicom_kinds import is_dicom_report
from guided_attention.data._files import is_setting_aside
from guided_attention.data.formats._table import ENDINGS, PLAIN_ENDINGS
from guided_attention.data.layouts._pairs import LABEL_WORDS
from guided_attention.data.layouts._records import Found
from guided_attention.errors import LeftOutWarning

__all__ = ["warn_of_left_over"]

_OF_SLICES = (".dcm", ".ima")
_NOT_READ = (
    ".img",
    ".mgz",
    ".mgh",
    ".nii.bz2",
    ".nii.zst",
    ".nii.xz",
    ".mnc",
    ".gipl",
    ".gipl.gz",
    ".bmp",
    ".gif",
)
_CHOSEN = ("chaos", "csv")
"""Layouts that choose among the scans of a folder."""
_LISTED = ("pairs", "dicom", "structures")
"""Layouts that read ``cases.json``."""


def warn_of_left_over(found: Found, root: Path) -> None:
    """Warn of scans below a folder that no case is read from: in odd places, of formats that are not read, no files.

    Likewise of a ``cases.json`` that the layout does not read.

    Files beside those that are read, such as channels and structures that were not asked for, are not told.
    """
    if not root.is_dir() or is_setting_aside():
        return
    listed = root / "cases.json"
    if found.layout not in _LISTED and listed.is_file():
        message = (
            f"{listed} is not read: the layout {found.layout!r} has parts and names of its own. Move it away."
        )
        warnings.warn(message, UserWarning, stacklevel=4)
    if found.layout.startswith(_CHOSEN):
        return
    used = {path for scan in found.scans for path in (scan.path, *scan.beside)}
    if found.layout == "png":
        used = {place / name for place in used for name in ("Img", "GT")}
    plain = any(path.name.lower().endswith(PLAIN_ENDINGS) for path in used) or found.layout == "png"
    endings = ENDINGS if plain else tuple(set(ENDINGS) - set(PLAIN_ENDINGS))
    left = list(_left(root, used, endings, is_chosen=found.layout == "structures"))
    if left:
        said = counted(len(left), "file looks like a scan and belongs", "files look like scans and belong")
        message = (
            f"In {root}, {said} to no case: {cut_list(left, shown=3)}. "
            "Move such files to where the layout has its scans, convert them, or move them away."
        )
        warnings.warn(message, LeftOutWarning, stacklevel=4)


def _left(root: Path, used: set[Path], endings: tuple[str, ...], *, is_chosen: bool) -> Iterator[Path]:
    places = {path.parent for path in used if not path.is_dir()}
    if is_chosen:  # structures that were not asked for
        places |= {place / word for place in places for word in LABEL_WORDS}
    else:  # masks that are called otherwise than their scan
        places -= {place for place in places if place.name.lower() in LABEL_WORDS and place != root}
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = [name for name in sorted(folders) if not name.startswith((".", "__"))]
        if here in used:
            continue
        for name in sorted(files):
            path, low = here / name, name.lower()
            is_odd = low.endswith(_NOT_READ) or (low.endswith(endings) and not path.is_file())
            is_elsewhere = here not in places and low.endswith((*endings, *_OF_SLICES))
            is_left = (is_odd or is_elsewhere) and path not in used and not low.startswith((".", "__"))
            if is_left and not (low.endswith(_OF_SLICES) and is_dicom_report(path)):
                yield path
