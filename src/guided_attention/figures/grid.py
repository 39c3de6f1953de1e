"""Picture grids: image, reference and prediction side by side, a row a case."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from guided_attention._checks import needs_extra, require, require_choice, require_type
from guided_attention._files import PathLike, made_folder, replacing
from guided_attention._geometry import CANONICAL, slice_axis_of
from guided_attention._typing import LabelArray, SliceAxis
from guided_attention.case import Case
from guided_attention.figures._paths import png_path
from guided_attention.figures._views import View, outline, sides_of, view_of
from guided_attention.labels import LabelSpec
from guided_attention.outputs import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["save_prediction_grid"]

_DPI = 150
_PANEL, _GAP, _CAPTION, _HEADING, _LEGEND_LINE = 3.0, 0.06, 0.6, 0.32, 0.24
"""Width of a panel, and the widths and heights of what is around it, in inches."""
_LOWEST, _HIGHEST = 2.0, 5.0
"""Height of a row in inches: the caption stands upright beside it."""
_LETTER = 0.08
_MOST_CASES = 80
"""Agg draws at most 65535 pixels."""
_PLACES = (
    (0.02, 0.5, "left", "center"),
    (0.98, 0.5, "right", "center"),
    (0.5, 0.98, "center", "top"),
    (0.5, 0.02, "center", "bottom"),
)
"""Left, right, top and bottom edge of a panel: x, y, alignments."""


def save_prediction_grid(
    path: PathLike,
    cases: Sequence[Case],
    predictions: Sequence[Prediction],
    labels: LabelSpec,
    *,
    slice_axis: SliceAxis | None = None,
) -> Path:
    """Save one PNG with a row for each case: image, reference contours, prediction contours.

    Slices are shown in radiological convention, whatever the storage order: the patient's right is on the left of axial
    and coronal slices, the front at the top of axial slices and on the left of sagittal ones, the head at the top of
    coronal and sagittal ones. Letters at the edges name the sides (right, left, anterior, posterior, superior,
    inferior; the nearest ones if the scan is oblique). Pixels are as wide and high as in the patient.

    Each row shows the first channel on the slice where the reference has most organs (the prediction, where there is no
    reference). Intensities run from the 1st to the 99th percentile of that slice. Slices are counted from the feet
    (axial), the front (coronal) or the patient's right (sagittal). Contours follow the edges of voxels; ignored voxels
    have none.

    Args:
        path: The PNG to write, atomically; an older one is replaced, missing folders are created.
        cases: At most 80 scans, with or without labels.
        predictions: One for each case, in the same order and on the same grid.
        labels: Names and colours of the organs.
        slice_axis: None for the axis of the largest spacing (median over the cases), axial where spacings are equal;
            of pictures, the axis of one or two voxels.

    Returns:
        The path.

    Raises:
        ArgumentError: There is no case, cases and predictions have different ids, or `path` or `slice_axis` is unfit.
        DataError: A prediction has another size or affine than its case, or a value that `labels` does not name.
        MissingPackageError: matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> case = Case("7", np.eye(5)[None, None], np.eye(5, dtype=np.uint8)[None], np.diag([1.5, 1.5, 9.0, 1.0]))
        >>> prediction = Prediction("7", case.labels, np.zeros((1, 5, 5), np.float32), case.affine)
        >>> path = tempfile.mkdtemp() + "/grid.png"
        >>> save_prediction_grid(path, [case], [prediction], LabelSpec({1: "liver"})).name
        'grid.png'
    """
    png = png_path(path)
    _require_pairs(cases, predictions)
    cure = 'Write LabelSpec({1: "liver"}).'
    require_type("labels", labels, LabelSpec, "a LabelSpec", cure)
    if slice_axis is None:
        slice_axis = slice_axis_of([(case.affine, case.image.shape[1:]) for case in cases])
    require_choice("slice_axis", slice_axis, tuple(CANONICAL))
    pairs = zip(cases, predictions, strict=True)
    views = [view_of(case, prediction, labels, slice_axis) for case, prediction in pairs]
    figure = _draw(views, labels, sides_of(slice_axis))
    made_folder(png.parent, "path")
    with replacing(png) as draft:
        figure.savefig(draft, dpi=_DPI, format="png")
    return png


def _require_pairs(cases: Sequence[Case], predictions: Sequence[Prediction]) -> None:
    for name, items, kind in (("cases", cases, Case), ("predictions", predictions, Prediction)):
        wanted = f"a list of {kind.__name__} records"
        require_type(name, items, (list, tuple), wanted, "Use list(...).")
        for item in items:
            require_type(name, item, kind, wanted)
    wanted = f"at least one case and at most {_MOST_CASES}"
    require(0 < len(cases) <= _MOST_CASES, "cases", wanted, len(cases))
    ids, predicted = [case.case_id for case in cases], [prediction.case_id for prediction in predictions]
    require(ids == predicted, "predictions", f"those of the cases {ids}", predicted)


def _draw(views: Sequence[View], labels: LabelSpec, sides: tuple[str, str, str, str]) -> "Figure":
    with needs_extra("plot"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    columns = _legend_columns(labels)
    heights = [_row_inches(view) for view in views]
    legend = _LEGEND_LINE * (math.ceil(len(labels.values) / columns) + 0.5)
    width, height = _CAPTION + 3 * (_PANEL + _GAP), _HEADING + sum(heights) + _GAP * len(views) + legend
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    inches, top = figure.dpi_scale_trans, height - _HEADING
    lefts = [_CAPTION + place * (_PANEL + _GAP) for place in range(3)]
    for left, heading in zip(lefts, ("image", "reference", "prediction"), strict=True):
        figure.text(left + _PANEL / 2, top + 0.08, heading, transform=inches, ha="center", fontsize=12)
    for view, tall in zip(views, heights, strict=True):
        top -= tall
        boxes = [(left / width, top / height, _PANEL / width, tall / height) for left in lefts]
        _draw_row([figure.add_axes(box) for box in boxes], view, labels, sides)
        lines = [*textwrap.wrap(view.title, int(tall / _LETTER), max_lines=2), view.place]
        style = {"rotation": 90, "ha": "center", "va": "center", "fontsize": 9, "parse_math": False}
        figure.text(_CAPTION / 2, top + tall / 2, "\n".join(lines), style, transform=inches)
        top -= _GAP
    _draw_legend(figure, labels, columns)
    return figure


def _row_inches(view: View) -> float:
    """Return the height of a row whose panels are `_PANEL` wide."""
    ratio: float = view.image.shape[0] * view.pixel_mm[0] / (view.image.shape[1] * view.pixel_mm[1])
    return min(max(_PANEL * ratio, _LOWEST), _HIGHEST)


def _draw_row(
    axes: Sequence["Axes"], view: View, labels: LabelSpec, sides: tuple[str, str, str, str]
) -> None:
    unmarked = np.zeros_like(view.prediction)
    for axis, contours in zip(axes, (unmarked, view.reference, view.prediction), strict=True):
        if contours is None:
            axis.set_axis_off()
            axis.text(0.5, 0.5, "no reference", ha="center", va="center", color="gray")
        else:
            _draw_panel(axis, view, sides)
            _draw_contours(axis, contours, labels)


def _draw_panel(axis: "Axes", view: View, sides: tuple[str, str, str, str]) -> None:
    from matplotlib.patheffects import withStroke  # noqa: PLC0415 - checked for by the caller

    low, high = view.grey_range
    aspect = view.pixel_mm[0] / view.pixel_mm[1]
    axis.imshow(view.image, cmap="gray", vmin=low, vmax=high, aspect=aspect, origin="upper")
    axis.set_xticks([])
    axis.set_yticks([])
    rim = [withStroke(linewidth=1.5, foreground="black")]
    style = {"color": "white", "fontsize": 9, "fontweight": "bold", "path_effects": rim}
    for letter, (x, y, horizontal, vertical) in zip(sides, _PLACES, strict=True):
        axis.text(x, y, letter, style, transform=axis.transAxes, ha=horizontal, va=vertical)


def _draw_contours(axis: "Axes", values: LabelArray, labels: LabelSpec) -> None:
    from matplotlib.collections import LineCollection  # noqa: PLC0415 - checked for by the caller

    for value, colour in labels.colours.items():
        lines = list(outline(values == value))
        axis.add_collection(LineCollection(lines, colors=colour, linewidths=1.2, capstyle="projecting"))


def _legend_columns(labels: LabelSpec) -> int:
    """Return how many names fit beside each other."""
    fit = int(3 * _PANEL / _LETTER) // (max(len(name) for name in labels.names.values()) + 6)
    return max(1, min(len(labels.values), fit))


def _draw_legend(figure: "Figure", labels: LabelSpec, columns: int) -> None:
    from matplotlib.lines import Line2D  # noqa: PLC0415 - checked for by the caller

    handles = [Line2D([], [], color=labels.colours[value], linewidth=2) for value in labels.values]
    names = list(labels.names.values())
    legend = figure.legend(handles, names, loc="lower center", ncols=columns, frameon=False, fontsize=10)
    for text in legend.get_texts():
        text.set_parse_math(False)
