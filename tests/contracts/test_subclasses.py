"""Tensor subclasses, such as those of MONAI's loaders, give the numbers of plain tensors everywhere."""

import importlib

import pytest
import torch
from monai.data import MetaTensor
from monai.data.utils import list_data_collate
from tests.contracts.entries import ENTRIES, RECORDS, made_by, tensors_of
from torch import Tensor, nn

pytestmark = pytest.mark.usefixtures("narrow_resnets")

AFFINE = torch.diag(torch.tensor([2.0, 3.0, 5.0, 1.0], dtype=torch.float64))


class Named(Tensor):
    """The smallest subclass there is."""


class Strict(Tensor):
    """A subclass whose results are plain tensors."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        result = super().__torch_function__(func, types, args, kwargs or {})
        return result.as_subclass(Tensor) if isinstance(result, cls) else result


def as_batch(x: Tensor) -> Tensor:
    """Return what MONAI's loader makes of the samples of a batch."""
    cases = [{"x": MetaTensor(sample, affine=AFFINE, meta={"name": str(i)})} for i, sample in enumerate(x)]
    return list_data_collate(cases)["x"]


KINDS = {
    "MetaTensor": as_batch,
    "MetaTensor that is no batch": lambda x: MetaTensor(x, affine=AFFINE),
    "a subclass": lambda x: x.as_subclass(Named),
    "a subclass that becomes plain": lambda x: x.as_subclass(Strict),
}


def run(name, training, kind):
    """Return results, gradients of the inputs and of the parameters."""
    made, inputs = made_by(name), ENTRIES[name].inputs()
    if isinstance(made, nn.Module):
        made.train(training)
    given = {key: kind(x.clone()) for key, x in inputs.items()}
    leaves = [x for x in given.values() if x.is_floating_point()]
    for leaf in leaves:
        leaf.requires_grad_()
    results = tensors_of(ENTRIES[name].call(made, **given))
    sum(result.square().mean() for result in results if result.requires_grad).backward()
    parameters = list(made.parameters()) if isinstance(made, nn.Module) else []
    buffers = list(made.buffers()) if isinstance(made, nn.Module) else []
    gradients = [x.grad for x in (*leaves, *parameters) if x.grad is not None]
    found = [*results, *gradients, *buffers]
    return [x.detach().as_subclass(Tensor) for x in found]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ENTRIES)
def test_numbers_gradients_and_statistics_are_those_of_plain_tensors(name, training):
    expected = run(name, training, lambda x: x)
    for kind, convert in KINDS.items():
        actual = run(name, training, convert)
        assert len(actual) == len(expected) > 1
        assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True)), kind


@pytest.mark.parametrize(
    "name", [name for name in ENTRIES if not name.startswith("losses") and name != "attention.attend"]
)
def test_metadata_stay_with_the_maps_as_in_every_network(name):
    given = {key: as_batch(x) for key, x in ENTRIES[name].inputs().items()}
    for result in tensors_of(ENTRIES[name].call(made_by(name), **given)):
        assert isinstance(result, MetaTensor)
        assert torch.equal(result.affine, AFFINE.expand(2, 4, 4))


@pytest.mark.parametrize("name", [name for name in ENTRIES if name.startswith("losses")])
def test_losses_are_plain_numbers(name):
    given = {key: as_batch(x) for key, x in ENTRIES[name].inputs().items()}
    assert {type(result) for result in tensors_of(ENTRIES[name].call(made_by(name), **given))} == {Tensor}


def test_a_checkpointed_network_takes_them_too():
    expected, actual = (checkpointed(convert) for convert in (lambda x: x, as_batch))
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def checkpointed(convert):
    model = made_by("models.MSGA").train()
    model.set_grad_checkpointing()
    x = ENTRIES["models.MSGA"].inputs()["x"]
    model(convert(x)).square().mean().backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("subpackage", RECORDS)
def test_every_public_name_has_an_entry(subpackage):
    public = set(importlib.import_module(f"guided_attention.{subpackage}").__all__)
    covered = {name.split(".")[1].split()[0] for name in ENTRIES if name.startswith(subpackage)}
    assert covered | RECORDS[subpackage] == public
    assert not covered & RECORDS[subpackage]
