"""Arguments of `open_cohort` that change nothing for the scans of a folder: they are told, never ignored silently."""

import warnings
from pathlib import Path

from guided_attention.data._files import is_setting_aside
from guided_attention.data.formats._table import has_geometry
from guided_attention.data.layouts._records import Found
from guided_attention.data.layouts._volumes import Reading

__all__ = ["warn_of_unused"]

_NOT_BY_NAME = ("csv", "structures")
"""Layouts of volumes whose channels are not found by the names of files."""


def warn_of_unused(found: Found, root: Path, how: Reading) -> None:
    """Warn of arguments that no file takes."""
    if is_setting_aside():  # it may be the file that takes one
        return
    for name, why in _unused(found, how).items():
        message = f"`{name}` changes nothing for {root}: {why}. Leave it out, or check the folder."
        warnings.warn(message, UserWarning, stacklevel=3)


def _unused(found: Found, how: Reading) -> dict[str, str]:
    """Return the arguments that change nothing, each with the reason."""
    is_chaos, is_png = found.layout.startswith("chaos"), found.layout == "png"
    files = [] if is_chaos or is_png else [path for scan in found.scans for path in (scan.path, *scan.beside)]
    folders = [path for path in files if path.is_dir()]
    is_plain = is_png or any(path not in folders and not has_geometry(path) for path in files)
    by_name = bool(files) and found.layout not in _NOT_BY_NAME
    joined = bool(files) and found.layout != "structures"
    joined = joined and any(len(scan.beside) > scan.is_labelled for scan in found.scans)
    unused = {
        "spacing_mm": (how.spacing_mm is not None and not is_plain, "its files hold their spacing"),
        "channels": (bool(how.channels) and not by_name, f"the layout {found.layout!r} has its own channels"),
        "resample_channels": (how.resample and not joined, "no scan has a file for each channel"),
        "series": (
            how.series is not None and not folders,
            "it has no folders of DICOM series to choose from",
        ),
    }
    return {name: why for name, (is_unused, why) in unused.items() if is_unused}
