"""Which weights of an earlier run another one starts from: classes and channels are compared by their names."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from guided_attention.errors import ArgumentError, FineTuningWarning
from guided_attention.inference import Predictor
from guided_attention.labels import LabelSpec
from guided_attention.models import build
from guided_attention.recipes import Plan
from guided_attention.recipes._initial import initial_weights, load_initial
from guided_attention.recipes._parts import predictor_of

pytestmark = pytest.mark.usefixtures("narrow_resnets")

_KNOWN = 7
"""All weights of the earlier run."""


def saved(plan: Plan, folder: Path) -> Path:
    model = build(plan.network)
    for value in model.state_dict().values():
        value.fill_(_KNOWN)
    predictor_of(plan, model).save(folder)
    return folder


def started(plan: Plan, run: Path) -> dict[str, Tensor]:
    model = build(plan.network)
    load_initial(model, initial_weights(run, plan), plan)
    return model.state_dict()


def others(weights: dict[str, Tensor]) -> set[str]:
    return {name for name, value in weights.items() if not bool((value == _KNOWN).all())}


@pytest.mark.parametrize(
    "names",
    [
        {1: "spleen", 2: "pancreas", 3: "stomach", 4: "aorta"},
        {1: "right kidney", 2: "liver", 3: "left kidney", 4: "spleen"},  # the same in another order
    ],
)
def test_weights_of_as_many_other_classes_are_new(plan: Plan, names: dict[int, str], tmp_path: Path) -> None:
    other = replace(plan, labels=LabelSpec(names))
    run = saved(plan, tmp_path / "run")
    told = r"other classes than those of the earlier run \(liver, right kidney, left kidney, spleen\): .*head"
    with pytest.warns(FineTuningWarning, match=told):
        weights = started(other, run)
    assert others(weights) == {name for name in weights if "heads." in name}


def test_weights_of_the_same_classes_are_kept_whatever_their_values(plan: Plan, tmp_path: Path) -> None:
    names = {3: "Liver", 5: "right_kidney", 6: "left kidney ", 63: "spleen"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights = started(replace(plan, labels=LabelSpec(names)), saved(plan, tmp_path / "run"))
    assert others(weights) == set()


def with_channels(plan: Plan, *names: str) -> Plan:
    """A plan for scans of several channels."""
    seen = plan.preparation.fingerprint
    assert seen is not None
    each: dict[str, Any] = {"channels": len(names), "channel_names": names}
    for name in ("intensities", "prepared_intensities", "tails"):
        each[name] = getattr(seen, name) * len(names)
    preparation = replace(plan.preparation, fingerprint=replace(seen, **each))
    arguments = {**plan.network.arguments, "in_channels": preparation.in_channels}
    return replace(plan, preparation=preparation, network=replace(plan.network, arguments=arguments))


def test_a_channel_in_the_place_of_another_is_refused_with_a_cure(plan: Plan, tmp_path: Path) -> None:
    run = saved(with_channels(plan, "t1", "flair"), tmp_path / "run")
    assert others(started(with_channels(plan, "t2", "flair"), run)) == set()
    for names in (("flair", "t1"), ("flair", "t2")):
        other = with_channels(plan, *names)
        with pytest.raises(
            ArgumentError, match=rf"in the order {names[0]}, {names[1]}, got t1, flair\. Plan anew with"
        ):
            initial_weights(run, other)
        earlier = Predictor.load(run, device="cpu").preparation
        assert others(started(replace(other, preparation=earlier), run)) == set()
