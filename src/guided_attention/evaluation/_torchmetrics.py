"""The metric behind `torchmetrics_metric`; a module of its own, so that it can be pickled and imports lazily."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from guided_attention._checks import require
from guided_attention.evaluation.accumulator import CaseAccumulator
from guided_attention.evaluation.summary import MetricName, summarize_metric

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
        slice_index: int | Sequence[int] | Tensor | None = None,
        spacing_mm: Sequence[float] | Sequence[Sequence[float]] | Tensor | None = None,
    ) -> None:
        """Take one case or slice, or a batch of them where `case_id` is a list."""
        if isinstance(case_id, str):
            preds, target, case_id = preds[None], target[None], [case_id]
        size = len(case_id)
        require(len(preds) == size, "preds", f"a batch of {size}, one for each case_id", len(preds))
        require(len(target) == size, "target", f"a batch of {size}, one for each case_id", len(target))
        indices = _indices(slice_index, size)
        spacings = _spacings(spacing_mm, size)
        for place, name in enumerate(case_id):
            self.accumulator.update(
                preds[place],
                target[place],
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

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # noqa: ANN401 - those of update
        """Take a batch; it has no score of its own."""
        self.update(*args, **kwargs)
        return {}

    def reset(self) -> None:
        """Forget all cases."""
        super().reset()
        self.accumulator.reset()

    def _tensor(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float32, device=self.device)


def _indices(given: int | Sequence[int] | Tensor | None, size: int) -> list[int | None]:
    """Return the index of each slice of a batch, None for whole cases."""
    if given is None:
        return [None] * size
    indices: list[int | None] = np.asarray(given).reshape(-1).tolist()
    require(len(indices) == size, "slice_index", f"{size} numbers, one for each case_id", len(indices))
    return indices


def _spacings(
    given: Sequence[float] | Sequence[Sequence[float]] | Tensor | None, size: int
) -> list[tuple[float, ...] | None]:
    """Return the spacing of each entry of a batch: its own, the one for all, or none."""
    if given is None:
        return [None] * size
    lengths = np.asarray(given, dtype=np.float64)
    rows = np.broadcast_to(lengths, (size, lengths.shape[-1])) if lengths.ndim == 1 else lengths
    require(len(rows) == size, "spacing_mm", f"one spacing, or {size}, one for each case_id", len(rows))
    return [tuple(row) for row in rows.tolist()]
