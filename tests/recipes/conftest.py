"""Small labelled cases, and a plan for them."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from guided_attention.case import Case, affine_of
from guided_attention.data import CHAOS_MR_LABELS, make_phantom
from guided_attention.recipes import Plan, _machine, plan_for

SMALL = {
    "network.arguments.channels": "8",
    "budget.epochs": "1",
    "training.precision": "fp32",
    "sampling.steps": "4",
}


def phantoms(count: int, size: int = 32) -> list[Case]:
    return [make_phantom(0, subject=number, size=size) for number in range(1, count + 1)]


def make_block(
    case_id: str, value: int = 1, *, size: tuple[int, int, int] = (5, 11, 13), low: float = 0.0
) -> Case:
    """A bright block in noise."""
    image = np.random.default_rng(len(case_id) + value).normal(low + 100, 10, size).astype(np.float32)
    image[0, 0, 0] = low
    labels = np.zeros(size, np.uint8)
    labels[1:4, 2:7, 3:9] = value
    return Case(case_id, image[None] + 50 * (labels > 0), labels, affine_of((9.0, 1.5, 1.5)))


@pytest.fixture(scope="package", autouse=True)
def quick_measurement() -> Iterator[None]:
    """The memory of a step is measured in tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_machine, "bytes_of_step", lambda *_, **__: (100_000_000, 10_000_000))
        yield


@pytest.fixture(scope="package")
def cases() -> list[Case]:
    return phantoms(5)


@pytest.fixture(scope="package")
def plan(cases: list[Case]) -> Plan:
    made = plan_for(cases, labels=CHAOS_MR_LABELS, device="cpu").with_values(SMALL)
    return replace(made, budget=replace(made.budget, minutes=None))


@pytest.fixture(scope="session")
def block() -> Callable[..., Case]:
    return make_block
