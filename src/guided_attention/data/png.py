"""PNG slices in the layout of the paper's code: read and written."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from guided_attention._checks import counted, cut_list, require, require_path, require_type
from guided_attention._files import PathLike, replacing, whole_folder
from guided_attention._geometry import radiological_affine, reorientation
from guided_attention._typing import SpacingMm
from guided_attention.case import Case, Source
from guided_attention.data._files import (
    files_in,
    natural_key,
    require_folder,
    require_pairs,
    to_labels,
)
from guided_attention.data.formats._limits import MAX_BYTES, require_fits
from guided_attention.data.formats._pictures import read_image_pages, read_mask_slice, size_of
from guided_attention.errors import DataError

__all__ = [
    "PNG_GREY_LEVELS",
    "find_png_slices",
    "read_png_slices",
    "read_png_subject",
    "write_png_slices",
    "write_png_subject",
]

PNG_GREY_LEVELS: Mapping[int, int] = MappingProxyType({0: 0, 63: 1, 126: 2, 189: 3, 252: 4})
"""The class of each grey level in the paper's masks: background, liver, right kidney, left kidney, spleen."""
_NAME = re.compile(r"Subj_(?P<id>.+?)slice_(?P<number>\d+)\.png", re.IGNORECASE)
_WHITE = 255.0
_OTHER_PICTURES = {".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif"}
_AXES = 3
_BYTES_OF_SLICE = 4
"""A pixel of the slice that is unpacked: at most two bytes, twice."""


def read_png_slices(
    folder: PathLike,
    *,
    spacing_mm: SpacingMm,
    grey_levels: Mapping[int, int] = PNG_GREY_LEVELS,
    max_bytes: int = MAX_BYTES,
) -> list[Case]:
    """Read subjects from PNG slices ``Img/Subj_<id>slice_<number>.png`` with masks of that name in ``GT``.

    PNG files hold no geometry: the spacing has to be given, and the slices count as shown in radiological convention
    (orientation "LPS"): columns run from the patient's right to the left, rows from front to back, slices to the head.
    Subjects and slices are ordered by number (slice 2 before slice 10).

    Args:
        folder: One part of a split, e.g. ``train``, that holds ``Img`` and, where there are masks, ``GT``.
        spacing_mm: Distance between voxel centres in millimetres, ``(z, y, x)``, of all subjects in the folder.
        grey_levels: The class of each grey level in the masks.
        max_bytes: What the image of a subject, and its masks, may take in memory, judged before they are unpacked.

    Returns:
        One case a subject, image of one channel with the grey values of the files, labels None without ``GT``.

    Raises:
        MissingFileError: The folder or its ``Img`` is missing or empty.
        DataError: An image has no mask or a mask no image, slices are missing in the middle, sizes differ, a grey level
            is not in the map, or a file is damaged or has another name.
        ArgumentError: The spacing or the map is not valid.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from guided_attention.data import make_phantom
        >>> with TemporaryDirectory() as folder:
        ...     train = write_png_slices([make_phantom(0, size=16)], f"{folder}/train")
        ...     case, = read_png_slices(train, spacing_mm=(9.0, 1.5, 1.5))
        >>> case.case_id, case.image.shape[2:], float(case.image.max())
        ('1', (16, 16), 255.0)
    """
    root, levels = require_folder("folder", folder), _checked_levels(grey_levels)
    radiological_affine(spacing_mm)  # raises where it is not valid, before files are read
    found = find_png_slices(root)
    return [
        read_png_subject(subject, images, masks, spacing_mm, levels, max_bytes=max_bytes)
        for subject, (images, masks) in found.items()
    ]


def find_png_slices(folder: Path) -> dict[str, tuple[tuple[Path, ...], tuple[Path, ...]]]:
    """Return the images and the masks of each subject in order, by names only; no masks where there is no ``GT``."""
    images = _by_name(folder / "Img")
    masks = _by_name(folder / "GT") if (folder / "GT").is_dir() else {}
    if masks:
        require_pairs(images, masks, cure="Add the missing files, or delete those left over.")
    found = {}
    for subject in sorted({subject for subject, _ in images}, key=natural_key):
        keys = [(subject, number) for number in _numbers_without_gaps(subject, images, folder / "Img")]
        found[subject] = tuple(images[key] for key in keys), tuple(masks[key] for key in keys if masks)
    return found


def _numbers_without_gaps(subject: str, names: Iterable[tuple[str, int]], folder: Path) -> list[int]:
    numbers = sorted(number for name, number in names if name == subject)
    missing = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    where, got = f"slices of subject {subject!r}", f"no slice {cut_list(missing)}"
    cure = "Add the missing slices."
    require(not missing, where, "numbered without gaps", got, cure, error=DataError, file=folder)
    return numbers


def _checked_levels(levels: object) -> Mapping[int, int]:
    """Return the map from grey level to class, or raise where PNG files of one byte cannot hold it."""
    wanted = "a mapping from grey level to class, each a whole number from 0 to 255"
    require_type("grey_levels", levels, Mapping, wanted)
    numbers = dict(levels) if isinstance(levels, Mapping) else {}
    flat = [*numbers, *numbers.values()]
    good = all(isinstance(value, int) and 0 <= value <= _WHITE for value in flat) and bool(numbers)
    require(good, "grey_levels", wanted, numbers)
    return numbers


def _by_name(folder: Path) -> dict[tuple[str, int], Path]:
    files = files_in(folder, suffix=".png")
    others = [path for path in folder.iterdir() if path.suffix.lower() in _OTHER_PICTURES]
    matches = [(path, _NAME.fullmatch(path.name)) for path in files]
    odd = [path.name for path, match in matches if match is None] + [path.name for path in others]
    what, wanted = f"files of {folder}", "called Subj_<id>slice_<number>.png"
    require(not odd, what, wanted, cut_list(odd), "Rename them.", error=DataError, file=folder)
    found: dict[tuple[str, int], Path] = {}
    for path, match in matches:
        if match:
            other = found.setdefault((match["id"], int(match["number"])), path)
            got, cure = f"{other.name} and {path.name}", "Delete one."
            require(
                other is path, f"slices of {folder}", "one a number", got, cure, error=DataError, file=path
            )
    return found


def read_png_subject(
    subject: str,
    images: Sequence[Path],
    masks: Sequence[Path],
    spacing_mm: SpacingMm,
    grey_levels: Mapping[int, int],
    *,
    max_bytes: int = MAX_BYTES,
    image_only: bool = False,
) -> Case:
    """Read the slices that `find_png_slices` found for one subject."""
    affine = radiological_affine(spacing_mm)
    image = _read_stack(images, max_bytes)
    labels = (
        _read_png_labels(masks, image.shape[-2:], grey_levels, max_bytes)
        if masks and not image_only
        else None
    )
    return Case(subject, image, labels, affine, source=Source(images[0].parent))


def _read_stack(paths: Sequence[Path], max_bytes: int) -> npt.NDArray[np.float32]:
    """Return the slices as ``(channels, depth, height, width)``; all are of one size and one mode."""
    channels, rows, columns = size_of(paths[0], max_bytes)
    _require_fits(paths, (channels * rows, columns), np.dtype(np.float32), max_bytes)
    stack = np.empty((channels, len(paths), rows, columns), np.float32)
    kinds = []
    for place, path in enumerate(paths):
        found, wanted = size_of(path, max_bytes), (channels, rows, columns)
        good = found[1:] == wanted[1:]
        shown = f"that of {paths[0].name}, {wanted[1:]}"
        require(good, f"size of {path}", shown, found[1:], error=DataError, file=path)
        pixels = read_image_pages(path, max_bytes)[..., 0, :, :]
        kinds.append(f"{counted(found[0], 'channel')} of {pixels.dtype}")
        shown, cure = f"those of {paths[0].name}, {kinds[0]}", "Save all slices of a scan in one mode."
        require(
            kinds[-1] == kinds[0], f"pixels of {path}", shown, kinds[-1], cure, error=DataError, file=path
        )
        stack[:, place] = pixels
    return stack


def _require_fits(paths: Sequence[Path], size: tuple[int, int], dtype: np.dtype[Any], max_bytes: int) -> None:
    """Judge a stack, and one slice of it beside it while that is unpacked."""
    rows, columns = size
    require_fits(paths[0].parent, rows * columns * (len(paths) * dtype.itemsize + _BYTES_OF_SLICE), max_bytes)


def _read_png_labels(
    paths: Sequence[Path], size: tuple[int, ...], grey_levels: Mapping[int, int], max_bytes: int
) -> npt.NDArray[np.uint8]:
    _require_fits(paths, (size[0], size[1]), np.dtype(np.uint8), max_bytes)
    shown = f"{dict(grey_levels)}; `grey_levels`, or dataset.json of a cohort, names others"
    stack = np.empty((len(paths), *size), np.uint8)
    for place, path in enumerate(paths):
        grey = read_mask_slice(path, max_bytes, size=size, whose="its image")
        stack[place] = to_labels(grey, grey_levels, path, shown=shown)
    return stack


def write_png_slices(
    cases: Sequence[Case], folder: PathLike, *, grey_levels: Mapping[int, int] = PNG_GREY_LEVELS
) -> Path:
    """Write cases as the PNG slices that the paper's code reads, numbered from 1 at the feet.

    Cases are reordered to radiological convention ("LPS", see `read_png_slices`) first; spacing and position are lost,
    because the layout cannot hold them. Intensities that are whole numbers from 0 to 255 are written as they are; other
    images are stretched so that the smallest and largest value of the volume become 0 and 255. (The paper stretches
    slice by slice, which gives the same tissue another grey in every slice.)

    Args:
        cases: Subjects of one part of a split, of one channel each.
        folder: The part's folder, new or empty, e.g. ``dataset/train``; written atomically.
        grey_levels: The class of each grey level in the masks, applied in reverse.

    Returns:
        The folder. It holds ``Img`` and, where all cases have labels, ``GT``.

    Raises:
        ExistingFileError: The folder holds something.
        DataError: There are no cases, an id comes twice, an image has several channels, only some cases have labels, or
            a class has no grey level.
        ArgumentTypeError: `cases` is no list of cases.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from guided_attention.data import make_phantom
        >>> with TemporaryDirectory() as folder:
        ...     written = write_png_slices([make_phantom(0, size=16)], f"{folder}/train")
        ...     sorted(path.name for path in written.iterdir())
        ['GT', 'Img']
    """
    levels = _checked_levels(grey_levels)
    _check_writable(cases, levels)

    def fill(draft: Path) -> None:
        for case in cases:
            write_png_subject(case, draft, levels)

    return whole_folder(require_path("folder", folder), fill)


def write_png_subject(case: Case, folder: Path, levels: Mapping[int, int]) -> list[Path]:
    """Write one case into ``Img`` and ``GT`` of an existing folder, file by file, and return the files."""
    _check_writable([case], levels)
    turn = reorientation(case.affine, "LPS")
    files = _write_stack(turn.apply(_to_grey(case.image[0])), folder / "Img", case.case_id)
    if case.labels is not None:
        greys = np.zeros(256, dtype=np.uint8)
        greys[list(levels.values())] = list(levels)
        files += _write_stack(turn.apply(greys[case.labels]), folder / "GT", case.case_id)
    return files


def _check_writable(cases: object, grey_levels: Mapping[int, int]) -> None:
    require_type("cases", cases, (tuple, list), "a list of cases")
    given: list[Case] = []
    for case in cases if isinstance(cases, (tuple, list)) else ():
        require_type("cases", case, Case, "a list of cases")
        given.append(case)
    names = [case.case_id for case in given]
    require(bool(given), "cases", "at least one case", "none", error=DataError)
    require(len(set(names)) == len(names), "cases", "of different ids", names, error=DataError)
    odd = [name for name in names if not name.isprintable() or set(name) & set("/\\")]
    require(not odd, "cases", "of ids that can be part of a file name", cut_list(odd), error=DataError)
    masked = [case.case_id for case in given if case.labels is not None]
    wanted, got = "all with labels or all without", f"labels for {cut_list(masked)}"
    require(len(masked) in {0, len(given)}, "cases", wanted, got, error=DataError)
    for case in given:
        channels, where = case.image.shape[0], f"image of case {case.case_id!r}"
        require(
            channels == 1, where, "of one channel", channels, "Write one channel a folder.", error=DataError
        )
        present = [] if case.labels is None else np.unique(case.labels).tolist()
        odd = [str(label) for label in present if label not in grey_levels.values()]
        where, wanted = f"labels of case {case.case_id!r}", f"classes of the map {dict(grey_levels)}"
        require(not odd, where, wanted, cut_list(odd), "Give `grey_levels` that name them.", error=DataError)


def _to_grey(image: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    low, high = float(image.min()), float(image.max())
    if low >= 0 and high <= _WHITE and bool((image == image.round()).all()):
        return image.astype(np.uint8)
    stretched = (image - low) * (_WHITE / (high - low)) if high > low else image - low
    return stretched.round().astype(np.uint8)


def _write_stack(stack: npt.NDArray[np.uint8], folder: Path, name: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    files = [folder / f"Subj_{name}slice_{number}.png" for number in range(1, len(stack) + 1)]
    for file, pixels in zip(files, stack, strict=True):
        with replacing(file) as draft:
            Image.fromarray(pixels).save(draft)
    return files
