"""Weights of an earlier run as the start of another: fine-tuning."""

import warnings
from dataclasses import replace

from torch import nn

from guided_attention._checkpoints import settings_of
from guided_attention._checks import cut_list, require
from guided_attention._files import PathLike
from guided_attention.errors import FineTuningWarning
from guided_attention.inference import Predictor
from guided_attention.models import ModelSettings, build
from guided_attention.preparation import Preparation
from guided_attention.recipes.plan import Plan

__all__ = ["initial_weights", "load_initial"]

_CLASSES = "num_classes"


def initial_weights(path: PathLike, plan: Plan) -> Predictor:
    """Return the predictor to start from; raise where its network differs from the plan's in more than classes."""
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


def _without_fingerprint(preparation: Preparation) -> Preparation:
    return replace(preparation, fingerprint=None)


def load_initial(model: nn.Module, start: Predictor) -> None:
    """Copy all weights that fit; those of another number of classes stay random, and a warning names them."""
    given = start.members[0].state_dict()
    fitting = {
        name: given[name]
        for name, value in model.state_dict().items()
        if name in given and given[name].shape == value.shape
    }
    model.load_state_dict(fitting, strict=False)
    fresh = sorted({name.rpartition(".")[0] for name in model.state_dict().keys() - fitting.keys()})
    if fresh:
        warnings.warn(
            f"{len(fresh)} layers start with random weights, as they belong to other classes: {cut_list(fresh)}. "
            f"The other {len(fitting)} weights are those of the earlier run.",
            FineTuningWarning,
            stacklevel=3,
        )
