"""The metric behind `torchmetrics_metric`; a module of its own, so that it can be pickled and imports lazily."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from guided_attention._checks import counted, require, require_type
from guided_attention._typing import Numbers
from guided_attention.evaluation.accumulator import CaseAccumulator
from guided_attention.evaluation.summary import MetricName, summarize_metric
from guided_attention.metrics._inputs import as_array, as_lengths, as_numbers

__all__ = ["CaseMetric"]


class CaseMetric(Metric):  # type: ignore[misc] # torchmetrics is optional: the type checker does not look into it
    """See `torchmetrics_metric`."""

    is_differentiable = False
    full_state_update = True

    def __init__(
        self, accumulator: CaseAccumulator, organs: Sequence[str], metrics: Sequence[MetricName]
    ) -> None:
        super().__init__(sync_on_compute=False)  # the accumulator gathers: slices are no tensors to be summed
        self.accumulator = accumulator
        self.organs = list(organs)
        self.metrics = list(metrics)

    def update(
        self,
        preds: Tensor,
        target: Tensor,
        *,
        case_id: str | Sequence[str],
        slice_index: int | Numbers | None = None,
        spacing_mm: Numbers | Sequence[Numbers] | None = None,
    ) -> None:
        """Take one case or slice, or a batch of them where `case_id` is a list."""
        found, expected = as_array("preds", preds), as_array("target", target)
        if isinstance(case_id, str):
            found, expected, case_id = found[None], expected[None], [case_id]
        require_type("case_id", case_id, (list, tuple), "a name or a list of names")
        size = len(case_id)
        for argument, batch in (("preds", found), ("target", expected)):
            wanted = f"a batch of {size}, one for each case_id"
            require(batch.ndim > 0 and len(batch) == size, argument, wanted, len(np.atleast_1d(batch)))
        indices = _indices(slice_index, size)
        spacings = _spacings(spacing_mm, size)
        for place, name in enumerate(case_id):
            self.accumulator.update(
                found[place],
                expected[place],
                case_id=name,
                slice_index=indices[place],
                spacing_mm=spacings[place],
            )

    def compute(self) -> dict[str, Tensor]:
        """Return means and counts over all cases of all processes."""
        rows = self.accumulator.compute()
        result: dict[str, Tensor] = {}
        for metric in self.metrics:
            *of_organs, over_organs = summarize_metric(rows, metric)
            means = {summary.organ: summary.mean for summary in of_organs}
            result[metric] = self._tensor(over_organs.mean)
            for organ in self.organs:
                result[f"{metric}_{organ}"] = self._tensor(means.get(organ, math.nan))
        statuses = [row.status for row in rows]
        result["skipped"] = torch.tensor(statuses.count("absent in both"), device=self.device)
        failed = statuses.count("missed") + statuses.count("false alarm")
        result["failed"] = torch.tensor(failed, device=self.device)
        return result

    def forward(
        self,
        preds: Tensor,
        target: Tensor,
        *,
        case_id: str | Sequence[str],
        slice_index: int | Numbers | None = None,
        spacing_mm: Numbers | Sequence[Numbers] | None = None,
    ) -> dict[str, Tensor]:
        """Take a batch; it has no score of its own."""
        self.update(preds, target, case_id=case_id, slice_index=slice_index, spacing_mm=spacing_mm)
        return {}

    def reset(self) -> None:
        """Forget all cases."""
        super().reset()
        self.accumulator.reset()

    def _tensor(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float32, device=self.device)


def _indices(given: object, size: int) -> list[int | None]:
    """Return the index of each slice of a batch, None for whole cases."""
    if given is None:
        return [None] * size
    array = isinstance(given, (Tensor, np.ndarray))
    row = as_array("slice_index", given).reshape(-1) if array else given
    numbers = as_numbers("slice_index", row if array or isinstance(row, (list, tuple)) else [row])
    whole = bool(np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all())
    require(whole, "slice_index", "made of whole numbers", numbers.tolist())
    require(
        len(numbers) == size, "slice_index", f"{counted(size, 'number')}, one for each case_id", len(numbers)
    )
    return [int(number) for number in numbers]


def _spacings(given: object, size: int) -> list[tuple[float, ...] | None]:
    """Return the spacing of each entry of a batch: its own, the one for all, or none."""
    if given is None:
        return [None] * size
    if isinstance(given, (list, tuple)):
        given = _one_a_case(given, size)
    array = isinstance(given, (Tensor, np.ndarray))
    rows = np.atleast_1d(as_array("spacing_mm", given)) if array else given
    of_each = list(rows) if isinstance(rows, (list, tuple, np.ndarray)) else []
    if not any(isinstance(row, (list, tuple)) or getattr(row, "ndim", 0) for row in of_each):
        return [as_lengths(rows)] * size
    wanted = f"one spacing, or {size}, one for each case_id"
    require(len(of_each) == size, "spacing_mm", wanted, len(of_each))
    return [as_lengths(row) for row in of_each]


def _one_a_case(given: Sequence[object], size: int) -> object:
    """Return what a loader makes of tuples, one tensor an axis, as one row a case; all else as it is."""
    axes = [part for part in given if isinstance(part, Tensor) and part.ndim == 1]
    if not axes or len(axes) < len(given):
        return given
    lengths, wanted = [len(axis) for axis in axes], f"tensors of {size} numbers, one for each axis"
    cure = "Pass torch.stack(...) of one tensor a case."
    require(set(lengths) == {size}, "spacing_mm", wanted, f"lengths {lengths}", cure=cure)
    return torch.stack(axes, 1)
