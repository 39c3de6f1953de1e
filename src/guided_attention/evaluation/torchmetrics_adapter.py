"""The scores of cases as a metric of torchmetrics, which is an optional package."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from guided_attention._checks import needs_extra, require, require_type
from guided_attention._typing import Numbers
from guided_attention.evaluation.accumulator import CaseAccumulator
from guided_attention.evaluation.summary import METRIC_NAMES, OF_SURFACES, MetricName
from guided_attention.labels import LabelSpec
from guided_attention.metrics import DistanceDefinition
from guided_attention.metrics._inputs import as_choice

if TYPE_CHECKING:
    import torchmetrics

__all__ = ["torchmetrics_metric"]


def torchmetrics_metric(
    labels: LabelSpec,
    *,
    metrics: Sequence[MetricName] = ("dice",),
    spacing_mm: Numbers | None = None,
    definition: DistanceDefinition = DistanceDefinition(),
    workers: int = 1,
) -> "torchmetrics.Metric":
    """Return a metric of torchmetrics that scores whole cases, for a training loop or a ``MetricCollection``.

    Its ``update(preds, target, case_id=…, slice_index=None, spacing_mm=None)`` takes one case or one slice, as
    `CaseAccumulator.update` does, or a batch of them: then `case_id` is a list of names, `slice_index` a list or
    tensor, and `spacing_mm` one spacing for all or one each. A collection passes these arguments to the metrics that
    know them, so that others may stand beside it.

    A list of tensors in `spacing_mm` is always read as what torch's ``default_collate`` makes of one tuple a case: one
    tensor for each axis, with a number for each case. A list of tuples or arrays, or one tensor ``(batch, axes)``, has
    a row for each case.

    Its ``compute()`` returns a dictionary of tensors. For each metric ``m``:

    ==================  ==================================================================
    ``m``               mean over the organs of a case, then over the cases
    ``m_liver``         mean over the cases, one for each organ of `labels`
    ==================  ==================================================================

    and ``skipped`` and ``failed``, the number of rows with an organ absent in both volumes, and with one missed or
    falsely found. The mean of nothing is NaN, and a missed organ makes a mean distance infinite.

    A call of the metric itself (``forward``) takes the batch and returns an empty dictionary: a batch is not a case, so
    it has no score. `compute` gathers from all processes, and what torchmetrics would do for that is switched off.

    Args:
        labels: The organs and their values.
        metrics: Names of the attributes of `CaseScore` to average.
        spacing_mm: Spacing of all cases for which ``update`` gets none, (z, y, x).
        definition: How surface distances are measured, which happens only if one of the metrics needs it.
        workers: Threads that search for the nearest points; -1 for all cores.

    Raises:
        ArgumentError: There is no such metric or none at all, or `surface_dice` is asked for without a tolerance.
        ArgumentTypeError: An argument has the wrong type.
        MissingPackageError: torchmetrics is not installed; the message names the extra.

    Example:
        >>> import torch
        >>> metric = torchmetrics_metric(LabelSpec({1: "liver"}), spacing_mm=(9.0, 1.5, 1.5))
        >>> volume = torch.ones(2, 3, 5, dtype=torch.int64)
        >>> metric.update(volume, volume, case_id="7")
        >>> metric.compute()
        {'dice': tensor(1.), 'dice_liver': tensor(1.), 'skipped': tensor(0), 'failed': tensor(0)}
    """
    require_type("metrics", metrics, (list, tuple), "a list of names", 'Write ("dice",) for one.')
    require(bool(metrics), "metrics", "at least one name", "none")
    for metric in metrics:
        as_choice("metrics", metric, METRIC_NAMES)
    require_type("definition", definition, DistanceDefinition, "a DistanceDefinition")
    cure = "Pass definition=DistanceDefinition(tolerance_mm=...)."
    lacking = "surface_dice" in metrics and definition.tolerance_mm is None
    require(not lacking, "tolerance_mm", "given for surface_dice", definition.tolerance_mm, cure=cure)
    measured = any(metric in OF_SURFACES for metric in metrics)
    accumulator = CaseAccumulator(
        labels, spacing_mm=spacing_mm, definition=definition if measured else None, workers=workers
    )
    with needs_extra("torchmetrics"):
        from guided_attention.evaluation._torchmetrics import CaseMetric  # noqa: PLC0415 - optional
    return CaseMetric(accumulator, list(labels.names.values()), tuple(metrics))
