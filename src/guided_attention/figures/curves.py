"""Learning curves: losses, validation score and learning rate of a run over its epochs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from guided_attention._checks import needs_extra, require, require_type
from guided_attention._files import PathLike, replacing
from guided_attention.figures._paths import png_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["save_training_curves"]

_EPOCH = "epoch"
_GROUPS = (("loss", "loss"), ("validation", "validation score"), ("lr", "learning rate"))
"""How the names of a panel's curves begin, and its title."""
_DPI, _WIDTH, _HEIGHT = 100, 4.5, 3.5


def save_training_curves(path: PathLike, rows: Sequence[Mapping[str, float]]) -> Path:
    """Save one PNG with the learning curves of a run.

    Three panels over the epochs: every number whose name begins with ``loss``, with ``validation`` and with ``lr``. The
    best validation is marked. Other numbers are not shown.

    Args:
        path: File to write, ending with ``.png``; its folder must exist. An existing file is replaced.
        rows: Numbers by name, one row an epoch, such as `guided_attention.training.read_log` returns.

    Returns:
        The path.

    Raises:
        ArgumentError: There is no row, or a row has no ``epoch``.
        ArgumentTypeError: `rows` is no list of mappings.
        MissingPackageError: matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> rows = [{"epoch": 1.0, "loss": 0.9, "lr": 0.1}, {"epoch": 2.0, "loss": 0.5, "validation_score": 0.7}]
        >>> save_training_curves(Path(tempfile.mkdtemp()) / "curves.png", rows).stat().st_size > 1000
        True
    """
    png = png_path(path)
    require_type("rows", rows, (list, tuple), "a list of rows")
    require(len(rows) > 0, "rows", "at least one row", "none")
    for row in rows:
        require_type("rows", row, Mapping, "a list of mappings from name to number")
        require(_EPOCH in row, "rows", f"of rows with {_EPOCH!r}", list(row))
    figure = _drawn(rows)
    with replacing(png) as draft:
        figure.savefig(draft, format="png")
    return png


def _drawn(rows: Sequence[Mapping[str, float]]) -> "Figure":
    with needs_extra("plot"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    size = (_WIDTH * len(_GROUPS), _HEIGHT)
    figure = Figure(figsize=size, dpi=_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(_GROUPS))
    for panel, (prefix, title) in zip(panels, _GROUPS, strict=True):
        _draw(panel, rows, prefix)
        panel.set_title(title)
        panel.set_xlabel(_EPOCH)
    return figure


def _draw(panel: "Axes", rows: Sequence[Mapping[str, float]], prefix: str) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row if name.startswith(prefix)))
    for name in names:
        points = [(row[_EPOCH], row[name]) for row in rows if name in row]
        epochs, values = zip(*points, strict=True)
        panel.plot(
            epochs, values, marker="." if len(points) == 1 or prefix == "validation" else "", label=name
        )
        if prefix == "validation":
            epoch, best = max(points, key=lambda point: (not math.isnan(point[1]), point[1]))
            panel.plot([epoch], [best], "o", fillstyle="none", label=f"best, {best:.3f} in epoch {epoch:.0f}")
    if names:
        panel.legend(fontsize="small")
