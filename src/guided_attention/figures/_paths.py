"""The file that a picture is written to."""

from pathlib import Path

from guided_attention._checks import require, require_path
from guided_attention._files import PathLike

__all__ = ["png_path"]


def png_path(path: PathLike) -> Path:
    """Return the path of a PNG; raise for another ending, or a folder."""
    png = require_path("path", path)
    good = png.suffix.lower() == ".png" and not png.is_dir()
    require(good, "path", "a file name that ends with .png", png, file=png)
    return png
