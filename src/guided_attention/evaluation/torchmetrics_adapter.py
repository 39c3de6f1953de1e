"""The scores of cases as a metric of torchmetrics, which is an optional package."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from guided_attention._checks import needs_extra, require, require_choice
from guided_attention.evaluation.accumulator import CaseAccumulator
from guided_attention.evaluation.summary import METRIC_NAMES, OF_SURFACES, MetricName
from guided_attention.metrics.surface import Combine, Surface

if TYPE_CHECKING:
    import torchmetrics

__all__ = ["torchmetrics_metric"]


def torchmetrics_metric(
    labels: Mapping[int, str],
    *,
    metrics: Sequence[MetricName] = ("dice",),
    spacing_mm: Sequence[float] | None = None,
    surface: Surface = "voxel",
    combine: Combine = "max",
    tolerance_mm: float | None = None,
    one_empty: Literal["inf", "diagonal"] = "inf",
    workers: int = 1,
) -> "torchmetrics.Metric":
    """Make a metric of torchmetrics that scores whole cases, for a training loop or a ``MetricCollection``.

    Its ``update(preds, target, case_id=…, slice_index=None, spacing_mm=None)`` takes one case or one slice, as
    `CaseAccumulator.update` does, or a batch of them: then `case_id` is a list of names, `slice_index` a list
    or tensor, and `spacing_mm` one spacing for all or one each. A collection hands these names to the metrics
    that know them, so that others may stand beside it.

    Its ``compute()`` returns a dictionary of tensors. For each metric ``m``:

    ==================  ==================================================================
    ``m``               mean over the organs of a case, then over the cases
    ``m_liver``         mean over the cases, one for each organ of `labels`
    ==================  ==================================================================

    and ``skipped`` and ``failed``, the number of rows with an organ absent in both volumes, and with one missed
    or falsely found. The mean of nothing is NaN, and a missed organ makes a mean distance infinite.

    A call of the metric itself (``forward``) takes the batch and returns an empty dictionary: a batch is no
    case, so it has no score. `compute` gathers from all processes by itself, and what torchmetrics would do
    for that is switched off.

    Args:
        labels: Name of each organ by its value, see `evaluate_case`.
        metrics: Names of the attributes of `CaseScore` to average; distances are measured only if one of them
            needs it.
        spacing_mm: For all cases that ``update`` gives none for, (z, y, x).
        surface: See `evaluate_case`, as all that follow.
        combine: How HD95 joins the two directions.
        tolerance_mm: Of the surface Dice.
        one_empty: Distance of an organ that is in one volume alone.
        workers: Threads that search for the nearest points.

    Returns:
        A ``torchmetrics.Metric``.

    Raises:
        ModuleNotFoundError: torchmetrics is not installed; the message names the extra.
        ValueError: There is no such metric or none at all, `surface_dice` is asked for without a tolerance, or
            the labels cannot be scored.

    Example:
        >>> import torch
        >>> metric = torchmetrics_metric({1: "liver"}, spacing_mm=(9.0, 1.5, 1.5))
        >>> volume = torch.ones(2, 3, 5, dtype=torch.int64)
        >>> metric.update(volume, volume, case_id="7")
        >>> metric.compute()
        {'dice': tensor(1.), 'dice_liver': tensor(1.), 'skipped': tensor(0), 'failed': tensor(0)}
    """
    require(bool(metrics), "metrics", "at least one name", "none")
    for metric in metrics:
        require_choice("metrics", metric, METRIC_NAMES)
    cure = "Pass tolerance_mm=… in millimetres."
    lacking = "surface_dice" in metrics and tolerance_mm is None
    require(not lacking, "tolerance_mm", "given for surface_dice", tolerance_mm, cure=cure)
    measured = any(metric in OF_SURFACES for metric in metrics)
    accumulator = CaseAccumulator(
        labels,
        spacing_mm=spacing_mm,
        distances=measured,
        surface=surface,
        combine=combine,
        tolerance_mm=tolerance_mm if measured else None,
        one_empty=one_empty,
        workers=workers,
    )
    with needs_extra("torchmetrics"):
        from guided_attention.evaluation._torchmetrics import CaseMetric  # noqa: PLC0415 - optional
    return CaseMetric(accumulator, list(labels.values()), tuple(metrics))
