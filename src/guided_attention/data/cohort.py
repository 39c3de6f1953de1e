"""Cohort: the cases of a folder, found by name at once and read when asked for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, SupportsIndex, get_args

from guided_attention._checks import (
    cut_list,
    repeated,
    require,
    require_choice,
    require_count,
    require_path,
    require_type,
)
from guided_attention._files import PathLike, json_mapping
from guided_attention._sides import left_right_pairs
from guided_attention._typing import LabelVolume, SpacingMm
from guided_attention.case import Case, affine_of
from guided_attention.data._files import keep_ids
from guided_attention.data._segments import are_read, require_same_organs
from guided_attention.data.formats._limits import MAX_BYTES
from guided_attention.data.layouts._left_over import warn_of_left_over
from guided_attention.data.layouts._records import Found, Layout, ReadCase, Scan, entries_of
from guided_attention.data.layouts._slices import find_chaos, find_png
from guided_attention.data.layouts._structures import find_structures
from guided_attention.data.layouts._table import find_table
from guided_attention.data.layouts._unused import warn_of_unused
from guided_attention.data.layouts._volumes import Reading, find_task, find_volumes
from guided_attention.errors import ArgumentTypeError, DataError, MissingFileError
from guided_attention.labels import LabelSpec

__all__ = ["Cohort", "Layout", "Opening", "open_agreeing", "open_cohort", "organs_of", "reading_of"]

_WHITE = 255
_LOOKED_FOR = (
    "volumes such as NIfTI or NRRD (*_image.nii.gz with *_label.nii.gz, or images/ with labels/), DICOM series, "
    "a folder for each subject with one mask file a structure (s1/ct.nii.gz, s1/segmentations/liver.nii.gz), "
    "imagesTr/ with labelsTr/ (Medical Segmentation Decathlon, nnU-Net), "
    "a CSV file with the columns case_id and image, "
    "a CHAOS release (Train_Sets/MR/<id>/T1DUAL, <id>/DICOM_anon), PNG slices (train/Img/Subj_<id>slice_<n>.png)"
)


@dataclass(frozen=True, eq=False)
class Cohort:
    """The cases of a folder. Volumes are read when a case is asked for, and are not kept.

    Made by `open_cohort`. A cohort can be indexed and looped over like a list of cases, and sent to worker processes.

    Attributes:
        folder: The folder that was opened, or the CSV file.
        layout: How it is laid out: ``"pairs"``, ``"dicom"``, ``"decathlon"``, ``"nnunet"``, ``"chaos"`` (with
            ``":t1_out"``, ``":t1_dual"`` or ``":t2"`` for the other MR scans), ``"png"``,
            ``"structures"`` or ``"csv"``.
        labels: The organs, as the layout or the argument `labels` says; None where that is unknown.
        channel_names: Names of the channels, empty where unknown.
        scans: What was found, one record a case.
        opening: How it was opened, with what was found out.
    """

    folder: Path
    layout: Layout
    labels: LabelSpec | None
    channel_names: tuple[str, ...]
    scans: tuple[Scan, ...]
    opening: "Opening"

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Names of the cases, in order."""
        return tuple(scan.case_id for scan in self.scans)

    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        """Cases by ``"train"``, ``"val"`` and ``"test"`` as the layout has them; empty where it has no parts."""
        named = {part: [s.case_id for s in self.scans if s.part == part] for part in ("train", "val", "test")}
        return {part: tuple(case_ids) for part, case_ids in named.items() if case_ids}

    @property
    def labelled(self) -> tuple[str, ...]:
        """Names of the cases that have a reference segmentation."""
        return tuple(scan.case_id for scan in self.scans if scan.is_labelled)

    @property
    def patients(self) -> Mapping[str, str]:
        """The patient of each case, for `split_subjects`, as a CSV file says it; empty where nothing does."""
        return {scan.case_id: scan.patient for scan in self.scans if scan.patient}

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.scans)

    def __getitem__(self, index: int) -> Case:
        """Read a case by its place."""
        wanted, cure = "the place of one case", "Write cohort.select(cohort.case_ids[0:2]) for several."
        require(isinstance(index, SupportsIndex), "index", wanted, index, cure, error=ArgumentTypeError)
        return self.scans[index].read()

    def __iter__(self) -> Iterator[Case]:
        """Read one case after another."""
        return (scan.read() for scan in self.scans)

    def read(self, case_id: str) -> Case:
        """Read a case by its name.

        Raises:
            ArgumentError: There is no such case.
            DataError: A file of the case cannot be used.
        """
        return self.select([case_id])[0]

    def readers(self) -> list[Callable[[], Case]]:
        """Return a function a case that reads it, for `Predictor.predict_to`."""
        return list(self.scans)

    def with_labels(self, labels: LabelSpec | Mapping[int, str]) -> "Cohort":
        """Return the same cases with these names for the values; with `others_are_background`, all else is read as 0.

        A mapping stands for what it does in `open_cohort`, which also reads masks by name where they name their organs.
        What is read as background before stays so.

        Raises:
            DataError: The masks of the cases are read without one of these organs, as others were chosen before.
        """
        wanted = "a LabelSpec, or a mapping from value to name"
        require_type("labels", labels, (LabelSpec, Mapping), wanted)
        organs, known = _organs(labels), self.labels
        if known is not None and known.others_are_background and self.labelled:
            good, got = are_read(organs, known), dict(organs.names)
            wanted = f"of the values of {dict(known.names)}: all others are read as 0"
            cure = f'Pass open_cohort("{self.folder}", labels={got}).'
            require(good, "labels", wanted, got, cure, error=DataError, file=self.folder)
            organs = replace(organs, others_are_background=True)
        if not organs.others_are_background:
            return replace(self, labels=organs)
        scans = (replace(scan, read=partial(_without_others, scan.read, organs)) for scan in self.scans)
        return replace(self, labels=organs, scans=tuple(scans))

    def without_labels(self) -> "Cohort":
        """Return the same scans for prediction: their masks are not read."""
        scans = (
            replace(scan, read=partial(scan.read, image_only=True), is_labelled=False) for scan in self.scans
        )
        return replace(self, scans=tuple(scans))

    def select(self, case_ids: Sequence[str]) -> "Cohort":
        """Return the cohort of some cases, in the order given.

        Raises:
            ArgumentError: There is no such case, or one comes twice.
        """
        kept = keep_ids(self.case_ids, case_ids, folder=self.folder)
        twice = repeated(kept)
        require(not twice, "case_ids", "each named once", f"{cut_list(twice)} more than once")
        by_id = {scan.case_id: scan for scan in self.scans}
        return replace(self, scans=tuple(by_id[name] for name in kept))


@dataclass(frozen=True)
class Opening:
    """How a folder of scans is opened: the arguments of `open_cohort`, which tells what each means, as one record."""

    layout: str = "auto"
    spacing_mm: SpacingMm | None = None
    channels: tuple[str, ...] | None = None
    resample_channels: bool = False
    max_bytes: int = MAX_BYTES
    series: str | int | None = None

    def open(self, folder: PathLike, labels: LabelSpec | Mapping[int, str] | None = None) -> Cohort:
        """Return `open_cohort` with these arguments, without a warning of those that change nothing for a folder."""
        return _open(folder, labels, self)[0]


def open_cohort(
    folder: PathLike,
    *,
    layout: str = "auto",
    labels: LabelSpec | Mapping[int, str] | None = None,
    spacing_mm: SpacingMm | None = None,
    channels: Sequence[str] | None = None,
    resample_channels: bool = False,
    max_bytes: int = MAX_BYTES,
    series: str | int | None = None,
) -> Cohort:
    """Find the cases in a folder by the names of its files, or in a CSV file, without reading a volume.

    The page "Layouts of scans" shows each layout as a tree.

    Args:
        folder: The folder; or one file of a volume, the folder of one DICOM series, or a CSV file.
        layout: How the folder is laid out: ``"auto"`` finds out, or a `Layout`.
        labels: The organs, where the layout does not say them or others are wanted. A mapping from value to name,
            such as ``{5: "liver"}``, selects organs: all other values are read as background, and names that differ
            only in "left" and "right" become a pair. With a `LabelSpec`, its `others_are_background` decides. The
            values are those of the masks, such as grey levels: ``{255: "liver"}``. Masks in colours are read by the
            colours of a `LabelSpec`; where names stand in the files (one file a structure, ``.seg.nrrd``, DICOM SEG,
            RTSTRUCT), by names: a file without any of them is background, with a warning.
        spacing_mm: Distance between voxel centres of files without geometry (PNG, JPEG, TIFF, NumPy), ``(z, y, x)``;
            1 mm, with a warning, where neither this nor ``dataset.json`` says it. Others have their own.
        channels: What the names of images end in where a scan has one file a channel, in the order wanted, such as
            ``("flair", "t1", "t1ce", "t2")``; other files of a scan are not read. None finds nnU-Net's numbers, and
            what follows the name of a mask. ``()`` takes each image for a scan.
        resample_channels: Whether a channel on another grid than the first is interpolated linearly onto it. Otherwise
            it is an error when the case is read.
        max_bytes: What each volume may take in memory when a case is read.
        series: Which series is read of DICOM folders that hold several: name, number or description, as
            `read_dicom_series` takes it. Without it, such a folder is an error when the case is read, which lists them.

    Returns:
        The cohort.

    Raises:
        MissingFileError: There is no such folder, or a link leads nowhere.
        DataError: The folder has no known layout or not the one asked for, a mask has no image, two cases have one
            name, a channel of a case is missing, or a JSON or CSV file is wrong. (An image without a mask among others
            with masks is a warning, and so are scans that belong to no case.)
        ArgumentError: The layout is unknown, or the spacing, the limit or a channel is not valid.

    Warns:
        UserWarning: `spacing_mm`, `channels`, `resample_channels` or `series` changes nothing for this folder.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from guided_attention.data import write_phantom_cohort
        >>> with TemporaryDirectory() as folder:
        ...     cohort = open_cohort(write_phantom_cohort(folder, subjects=2, size=16))
        ...     print(cohort.layout, cohort.case_ids, cohort.read("2").image.shape[2:])
        chaos ('1', '2') (16, 16)
    """
    opening = Opening(layout, spacing_mm, _checked_channels(channels), resample_channels, max_bytes, series)
    cohort, found, how = _open(folder, labels, opening)
    warn_of_unused(found, cohort.folder, how)
    return cohort


def open_agreeing(folder: PathLike, labels: LabelSpec, opening: Opening) -> Cohort:
    """Return `opening.open` for organs that come from elsewhere; files that name their values otherwise are an error.

    The organs that `open_cohort` is given are the word of the user, and replace what files say.
    """
    cohort, found, _ = _open(folder, labels, opening)
    require_same_organs(labels, found.labels, cohort.folder)
    return cohort


def _open(
    folder: PathLike, labels: LabelSpec | Mapping[int, str] | None, opening: Opening
) -> tuple[Cohort, Found, Reading]:
    """Return the cohort, with what the folder holds and how it is read."""
    require_choice("layout", opening.layout, ("auto", *get_args(Layout)))
    organs = organs_of(labels)
    if opening.spacing_mm is not None:
        affine_of(opening.spacing_mm)  # raises where it is not valid
    require_count("max_bytes", opening.max_bytes)
    require_type("series", opening.series, (str, int, type(None)), "the name or number of a series, or None")
    root = require_path("folder", folder)
    if not root.exists():
        message = f"`folder` must be an existing folder or file, got {root}."
        raise MissingFileError(message, argument="folder", file=root)
    channels = _checked_channels(opening.channels)
    how = Reading(channels, opening.resample_channels, opening.spacing_mm, organs, opening.series)
    found = _find(root, opening.layout, how)
    _check(found, root)
    warn_of_left_over(found, root)
    has_parts = len({scan.part for scan in found.scans}) > 1
    # A single part for all cases says nothing about which train and which test.
    scans = tuple(
        replace(
            scan,
            part=scan.part if has_parts else "",
            read=partial(scan.read, max_bytes=opening.max_bytes),
        )
        for scan in found.scans
    )
    as_found = replace(opening, layout=found.layout, channels=found.channels)
    cohort = Cohort(root, found.layout, found.labels, found.channel_names, scans, as_found)
    return cohort if organs is None else cohort.with_labels(organs), found, how


def _without_others(
    read: ReadCase, labels: LabelSpec, *, max_bytes: int | None = None, image_only: bool = False
) -> Case:
    case = (
        read(image_only=image_only) if max_bytes is None else read(max_bytes=max_bytes, image_only=image_only)
    )
    if case.labels is not None and _WHITE not in labels.names and _is_white(case.labels):
        wanted, got = f"of the values of {dict(labels.names)}", f"only {_WHITE}"
        cure = f'Name the value that the mask has: {{{_WHITE}: "{next(iter(labels.names.values()))}"}}.'
        where, file = f"labels of case {case.case_id!r}", case.source.path if case.source else None
        require(labels.ignore_value == _WHITE, where, wanted, got, cure, error=DataError, file=file)
    return case if case.labels is None else replace(case, labels=labels.without_others(case.labels))


def _is_white(labels: LabelVolume) -> bool:
    """Return whether a mask is 255 where it is not 0, as programs for pictures write it."""
    return bool(labels.max() == _WHITE and ((labels == 0) | (labels == _WHITE)).all())


def organs_of(labels: LabelSpec | Mapping[int, str] | None) -> LabelSpec | None:
    """Return what `labels` of `open_cohort` stands for."""
    require_type(
        "labels",
        labels,
        (LabelSpec, Mapping, type(None)),
        "a LabelSpec, a mapping from value to name, or None",
    )
    return None if labels is None else _organs(labels)


def _organs(labels: LabelSpec | Mapping[int, str]) -> LabelSpec:
    if isinstance(labels, LabelSpec):
        return labels
    # The names are checked before their sides are compared.
    return replace(LabelSpec(labels, others_are_background=True), pairs=left_right_pairs(labels))


def reading_of(cohort: Cohort) -> Mapping[str, Any]:
    """Return what decides, beside the files, which volumes a cohort reads; a limit of memory changes none."""
    how = {name: value for name, value in asdict(cohort.opening).items() if name != "max_bytes"}
    folder = cohort.folder if cohort.folder.is_dir() else cohort.folder.parent
    said = json_mapping(folder / "dataset.json")
    about = {name: said.get(name) for name in ("spacing_mm", "grey_levels")}
    labels = None if cohort.labels is None else cohort.labels.to_dict()
    return {"labels": labels, "channel_names": cohort.channel_names, "dataset.json": about, **how}


def _checked_channels(channels: Sequence[str] | None) -> tuple[str, ...] | None:
    cure = 'Write ("t1",) for one channel.'
    require_type("channels", channels, (tuple, list, type(None)), "a list of texts, or None", cure)
    for name in channels or ():
        require_type("channels", name, str, "a list of texts", cure)
    lower = [name.lower() for name in channels or ()]
    good = all(lower) and not repeated(lower)
    require(good, "channels", "different texts, none empty", list(channels or ()))
    return None if channels is None else tuple(channels)


def _find(root: Path, layout: str, how: Reading) -> Found:
    kind = layout.partition(":")[0]
    finders: dict[str, Callable[[], Found | None]] = {
        "csv": lambda: find_table(root, how),
        "decathlon nnunet": lambda: find_task(root, how),
        "chaos": lambda: find_chaos(root, layout),
        "png": lambda: find_png(root, how),
        "structures": lambda: find_structures(root, how),
        "pairs dicom": lambda: find_volumes(root, how),
    }
    for kinds, find in finders.items():
        found = (
            find()
            if kind in {"auto", *kinds.split()} and (root.is_dir() or kinds in {"csv", "pairs dicom"})
            else None
        )
        if found is not None and layout in {"auto", found.layout}:
            return found
    held = cut_list([path.name for path in entries_of(root)]) or "nothing" if root.is_dir() else ""
    wanted = "a folder of scans" if layout == "auto" else f"a folder of scans in the layout {layout!r}"
    got = f"{root}, which holds {held}" if held else f"the file {root}"
    nearer = _nearer(root)
    cure = f"Open {nearer}." if nearer else f"Looked for: {_LOOKED_FOR}."
    raise DataError(f"`folder` must be {wanted}, got {got}. {cure}", argument="folder", file=root)


def _nearer(root: Path) -> Path | None:
    """Return what was probably meant: the folder of a task, or a CSV file, in a folder that is none itself."""
    entries = entries_of(root) if root.is_dir() else []
    tasks = [path for path in entries if (path / "imagesTr").is_dir() or path.suffix.lower() == ".csv"]
    return tasks[0] if tasks else None


def _check(found: Found, root: Path) -> None:
    for name in repeated(scan.case_id for scan in found.scans):
        paths = [scan.path for scan in found.scans if scan.case_id == name]
        shown = " and ".join(map(str, paths))
        message = (
            f"`cases of {root}` must be of different names, got {name!r} for {shown}. Rename one of them."
        )
        raise DataError(message, argument="folder", file=paths[-1])
