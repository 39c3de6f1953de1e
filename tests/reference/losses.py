"""Losses written out position by position, in plain Python numbers."""

import math
from collections.abc import Iterator
from itertools import product

from torch import Tensor


def _positions(target: Tensor, ignored: int | None) -> Iterator[tuple[tuple[int, ...], int]]:
    for index in product(*(range(side) for side in target.shape)):
        label = int(target[index])
        if ignored is None or label != ignored:
            yield index, label


def _probabilities(logits: Tensor, index: tuple[int, ...]) -> list[float]:
    scores = [float(logits[(index[0], c, *index[1:])]) for c in range(logits.shape[1])]
    top = max(scores)
    powers = [math.exp(value - top) for value in scores]
    return [power / sum(powers) for power in powers]


def cross_entropy(
    logits: Tensor, target: Tensor, weights: list[float] | None = None, ignored: int | None = None
) -> float:
    total = norm = 0.0
    for index, label in _positions(target, ignored):
        weight = 1.0 if weights is None else weights[label]
        total -= weight * math.log(_probabilities(logits, index)[label])
        norm += weight
    return total / norm if norm else 0.0


def dice(
    logits: Tensor,
    target: Tensor,
    weights: list[float] | None = None,
    ignored: int | None = None,
    *,
    background: bool = False,
    smooth: float = 1.0,
) -> float:
    classes = range(0 if background else 1, logits.shape[1])
    total = norm = 0.0
    for c in classes:
        shared = found = true = 0.0
        for index, label in _positions(target, ignored):
            probability = _probabilities(logits, index)[c]
            found += probability
            if label == c:
                true += 1
                shared += probability
        weight = 1.0 if weights is None else weights[c]
        total += weight * (1 - (2 * shared + smooth) / (found + true + smooth))
        norm += weight
    return total / norm if norm else 0.0


def squares(pairs: list[tuple[Tensor, Tensor]], reduction: str) -> float:
    total = 0.0
    for first, second in pairs:
        differences = [
            a - b for a, b in zip(first.flatten().tolist(), second.flatten().tolist(), strict=True)
        ]
        share = len(differences) if reduction == "mean" else first.shape[0]
        total += sum(difference**2 for difference in differences) / share
    return total
