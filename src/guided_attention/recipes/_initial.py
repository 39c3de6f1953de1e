"""Weights of an earlier run as the start of another: fine-tuning."""

import warnings
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from guided_attention._checkpoints import settings_of
from guided_attention._checks import cut_list, require
from guided_attention._files import PathLike
from guided_attention.data._segments import plain_name
from guided_attention.errors import FineTuningWarning
from guided_attention.inference import Predictor
from guided_attention.labels import LabelSpec
from guided_attention.models import ModelSettings, build
from guided_attention.preparation import Preparation
from guided_attention.recipes.plan import Plan

__all__ = ["initial_weights", "load_initial"]

_CLASSES = "num_classes"


def initial_weights(path: PathLike, plan: Plan) -> Predictor:
    """Return the predictor to start from.

    Raise where its network differs from the plan's in more than classes, or saw a channel in another place.
    """
    start = Predictor.load(path, device="cpu")
    got = f"an ensemble of {len(start.members)}"
    cure = "Name the run of one of them."
    require(len(start.members) == 1, "init_from", "a run of one network", got, cure, file=path)
    was, wanted = settings_of(start.members[0]), settings_of(build(plan.network))
    differing = [] if was is None or wanted is None else _differing(was, wanted)
    cure = "Plan with these values: Plan.with_values, or --set."
    good = was is not None and not differing
    got = "a network with parts of your own" if was is None else f"one with {cut_list(differing)}"
    require(
        good, "init_from", "a run with the network of the plan, but for its classes", got, cure, file=path
    )
    _require_channels_in_place(start.preparation, plan.preparation, path)
    if _without_fingerprint(start.preparation) != _without_fingerprint(plan.preparation):
        warnings.warn(
            f"The run in {path} saw scans prepared in another way. Training uses the preparation of the plan, which is "
            "fitted to the new scans and stored with the new weights.",
            FineTuningWarning,
            stacklevel=3,
        )
    return start


def _differing(was: ModelSettings, wanted: ModelSettings) -> list[str]:
    """Return what differs in the settings, as ``name=value`` of the earlier network."""
    if was.builder != wanted.builder:
        return [f"network.builder={was.builder}"]
    return [
        f"network.arguments.{name}={was.arguments.get(name)}"
        for name, value in wanted.arguments.items()
        if name != _CLASSES and was.arguments.get(name) != value
    ]


def _require_channels_in_place(was: Preparation, wanted: Preparation, path: PathLike) -> None:
    """Raise where the first layer would see a channel in the place of another."""
    before, now = (one.fingerprint.channel_names if one.fingerprint else () for one in (was, wanted))
    moved = [name for name in now if name in before and before.index(name) != now.index(name)]
    cure = (
        "Plan anew with the channels in the order of that run. In Python, its preparation orders them: "
        "replace(plan, preparation=Predictor.load(run).preparation)."
    )
    order = f"a run with the channels in the order {', '.join(now)}"
    require(not moved, "init_from", order, ", ".join(before), cure, file=path)


def _without_fingerprint(preparation: Preparation) -> Preparation:
    return replace(preparation, fingerprint=None)


def load_initial(model: nn.Module, start: Predictor, plan: Plan) -> None:
    """Copy the weights; where the classes are others, those that depend on them stay random, and a warning names them.

    Classes are compared by the names of their organs: values may differ.
    """
    given, own = start.members[0].state_dict(), model.state_dict()
    was, wanted = _classes(start.labels), _classes(plan.labels)
    fresh = [] if was == wanted else _of_classes(own, plan.network)
    model.load_state_dict({name: given[name] for name in own if name not in fresh}, strict=False)
    if fresh:
        layers = sorted({name.rpartition(".")[0] for name in fresh})
        warnings.warn(
            f"{len(layers)} layers start with random weights, as they belong to other classes than those of the "
            f"earlier run ({cut_list([*start.labels.names.values()])}): {cut_list(layers)}. "
            f"The other {len(own) - len(fresh)} weights are those of the earlier run.",
            FineTuningWarning,
            stacklevel=3,
        )


def _classes(labels: LabelSpec) -> list[str]:
    return [plain_name(name) for name in labels.names.values()]


def _of_classes(weights: Mapping[str, Tensor], network: ModelSettings) -> list[str]:
    """Return the names of the weights whose shape depends on the number of classes."""
    count = int(str(network.arguments[_CLASSES])) + 1
    with torch.device("meta"):
        other = build(ModelSettings(network.builder, {**network.arguments, _CLASSES: count})).state_dict()
    return [name for name, value in weights.items() if other[name].shape != value.shape]
