"""Picture grids: image, truth and prediction side by side, a row a case."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from guided_attention._checks import needs_extra, require
from guided_attention._files import replacing
from guided_attention._typing import LabelVolume
from guided_attention.case import Case
from guided_attention.outputs import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["save_prediction_grid"]

_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#ffe119", "#f58231", "#42d4f4", "#f032e6", "#bfef45")


def save_prediction_grid(
    path: Path | str, cases: Sequence[Case], predictions: Sequence[Prediction], labels: Mapping[int, str]
) -> Path:
    """Draw for each case its image, what the expert drew and what the network drew, in one PNG.

    Each row shows the slice where the truth (the prediction, for a case without labels) has most organs, grey values
    between the 1st and 99th percentile of that slice, pixels as wide and high as they are in the patient.

    Args:
        path: The PNG to write; it appears whole or not at all, and replaces an older one.
        cases: What was predicted.
        predictions: One for each case, in the same order.
        labels: Name of each organ by its label.

    Returns:
        The path.

    Raises:
        ValueError: Cases and predictions are none, or do not belong together.
        ModuleNotFoundError: matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from guided_attention.data import make_phantom
        >>> case = make_phantom(0, size=32)
        >>> certain = np.zeros(case.labels.shape, np.float32)
        >>> prediction = Prediction(case.case_id, case.labels, certain, case.affine)
        >>> save_prediction_grid(tempfile.mkdtemp() + "/grid.png", [case], [prediction], {1: "liver"}).name
        'grid.png'
    """
    require(len(cases) > 0, "cases", "at least one case", "none")
    ids, predicted = [case.case_id for case in cases], [prediction.case_id for prediction in predictions]
    require(ids == predicted, "predictions", f"those of the cases {ids}", predicted)
    with needs_extra("plot"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    figure = Figure(figsize=(9, 3 * len(cases) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(cases), 3, squeeze=False)
    for row, case, prediction in zip(axes, cases, predictions, strict=True):
        _draw_case(row, case, prediction)
    for axis, title in zip(axes[0], ("image", "truth", "prediction"), strict=True):
        axis.set_title(title)
    _draw_legend(figure, labels)
    return _save(figure, Path(path))


def _draw_case(row: Sequence["Axes"], case: Case, prediction: Prediction) -> None:
    truth = prediction.labels if case.labels is None else case.labels
    z = _telling_slice(truth)
    image = case.image[0, z]
    low, high = np.percentile(image, (1, 99))
    for axis, overlay in zip(row, (None, case.labels, prediction.labels), strict=True):
        axis.imshow(image, cmap="gray", vmin=low, vmax=high, aspect=case.spacing_mm[1] / case.spacing_mm[2])
        if overlay is not None:
            axis.imshow(_coloured(overlay[z]), aspect=case.spacing_mm[1] / case.spacing_mm[2])
        axis.set_xticks([])
        axis.set_yticks([])
    row[0].set_ylabel(f"case {case.case_id}, slice {z + 1}")


def _telling_slice(labels: LabelVolume) -> int:
    """Return the slice with most organs, of these the one that they fill most."""
    return max(range(len(labels)), key=lambda z: (len(np.unique(labels[z])), np.count_nonzero(labels[z])))


def _coloured(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """Return labels as half-transparent colours, the background clear."""
    colours = np.array([_rgb(colour) for colour in _COLOURS], dtype=np.float32)
    picture = np.zeros((*labels.shape, 4), dtype=np.float32)
    drawn = labels > 0
    picture[drawn, :3] = colours[(labels[drawn] - 1) % len(colours)]
    picture[drawn, 3] = 0.55
    return picture


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))


def _draw_legend(figure: "Figure", labels: Mapping[int, str]) -> None:
    from matplotlib.patches import Patch  # noqa: PLC0415 - checked for by the caller

    handles = [
        Patch(color=_COLOURS[(label - 1) % len(_COLOURS)], label=name)
        for label, name in sorted(labels.items())
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def _save(figure: "Figure", path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        figure.savefig(draft, dpi=100, format="png")
    return path
