"""Dimensions, voxels and patches that are chosen for a cohort."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from guided_attention.case import Case, affine_of
from guided_attention.errors import ArgumentError
from guided_attention.preparation import Fingerprint, Preparation
from guided_attention.recipes import _machine as machine
from guided_attention.recipes import plan_for, planning
from guided_attention.recipes._parts import loss_of
from guided_attention.recipes._shapes import _voxel_mm, chosen_dimensions, fitted

Block = Callable[..., Case]
CPU, GPU = torch.device("cpu"), torch.device("cuda")


def seen(size: tuple[int, int, int], spacing_mm: tuple[float, float, float], block: Block) -> Fingerprint:
    """The fingerprint of scans of one size and spacing."""
    made = Preparation().fit([block("1")]).fingerprint
    assert made is not None
    return replace(made, sizes=(size,) * 3, spacings_mm=(spacing_mm,) * 3)


@pytest.mark.parametrize(
    ("size", "spacing_mm", "device", "dimensions", "reason"),
    [
        (
            (23, 97, 89),
            (9.0, 1.5, 1.5),
            CPU,
            "2d",
            "slices: slices are 9 mm apart, 6 times the side of a pixel",
        ),
        ((23, 97, 89), (9.0, 1.5, 1.5), GPU, "2d", "neighbours show other anatomy"),
        ((23, 97, 89), (4.5, 1.5, 1.5), CPU, "2.5d", "than a CPU gives them"),
        ((31, 97, 89), (4.5, 1.5, 1.5), GPU, "2.5d", "there are 31 of them, few for volumes"),
        ((32, 97, 89), (4.5, 1.5, 1.5), GPU, "3d", "volumes: slices are 4.5 mm apart"),
        ((97, 89, 83), (1.0, 1.0, 1.0), CPU, "2.5d", "slices with their neighbours as channels"),
        ((1, 97, 89), (1.0, 1.0, 1.0), CPU, "2d", "scans have fewer than 3 slices, too few for neighbours"),
        ((2, 97, 89), (1.0, 1.0, 1.0), GPU, "2d", "too few for neighbours"),
    ],
)
def test_dimensions_follow_from_spacing_slices_and_device(
    size: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    device: torch.device,
    dimensions: str,
    reason: str,
    block: Block,
) -> None:
    why: dict[str, str] = {}
    assert chosen_dimensions(seen(size, spacing_mm, block), None, device, why) == dimensions
    assert reason in why["sampling.size"]


def test_dimensions_that_are_asked_for_are_taken(block: Block) -> None:
    for asked in ("2d", "2.5d", "3d"):
        why: dict[str, str] = {}
        assert chosen_dimensions(seen((1, 97, 89), (9.0, 1.5, 1.5), block), asked, CPU, why) == asked
        assert why["sampling.size"].endswith(": as asked")


@pytest.mark.usefixtures("without_shape_checks")
def test_other_dimensions_are_refused(block: Block) -> None:
    with pytest.raises(ArgumentError, match="'2d', '2.5d', '3d', got '4d'"):
        plan_for([block("1")], dimensions="4d")


@pytest.mark.parametrize(
    ("size", "spacing_mm", "most", "wanted"),
    [
        ((50, 50, 50), (1.0, 1.0, 1.0), 50**3, (1.0, 1.0, 1.0)),
        # Within three times, voxels become cubes of the same volume: 2 * 1 * 1 = 1.26 ** 3.
        ((50, 100, 100), (2.0, 1.0, 1.0), 50 * 100 * 100, (1.3, 1.3, 1.3)),
        ((20, 100, 100), (4.0, 1.0, 1.0), 20 * 100 * 100, (4.0, 1.0, 1.0)),
        # Eight times too many voxels: sides double, in steps of 2 %.
        ((100, 100, 100), (1.0, 1.0, 1.0), 50**3, (2.1, 2.1, 2.1)),
        # Four times too many: the finest sides double first.
        ((20, 100, 100), (4.0, 1.0, 1.0), 20 * 50 * 50, (4.0, 2.1, 2.1)),
    ],
)
def test_voxels_are_the_median_cubes_or_coarser(
    size: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    most: int,
    wanted: tuple[float, float, float],
    block: Block,
) -> None:
    why: dict[str, str] = {}
    assert _voxel_mm(seen(size, spacing_mm, block), most, CPU, why) == pytest.approx(wanted)
    assert "the median voxel is" in why["preparation.spacing_mm"]


def test_a_patch_of_volumes_is_as_large_as_the_device_allows(block: Block) -> None:
    for size, spacing_mm, held, wanted in (
        ((30, 40, 20), (1.0, 1.0, 1.0), 10**9, (32, 64, 32)),  # the whole volume, in multiples of 32
        ((12, 200, 200), (5.0, 1.0, 1.0), 10**9, (32, 64, 96)),  # the longest sides shrink
        ((30, 70, 40), (1.0, 1.0, 1.0), 2 * 32 * 64 * 64, (32, 64, 64)),  # a small memory
        ((30, 40, 20), (1.0, 1.0, 1.0), 0, (32, 32, 32)),  # none
    ):
        preparation = replace(Preparation(slice_axis="axial"), fingerprint=seen(size, spacing_mm, block))
        made, patch = fitted(preparation, "3d", is_ct=False, device=CPU, held=lambda n=held: n, why={})
        assert made.min_size == patch == wanted
        assert made.neighbours == 0


@pytest.mark.parametrize(("between", "neighbours"), [(0.5, 2), (1.25, 2), (2.5, 1), (9.0, 1)])
def test_neighbours_reach_2_5_mm(between: float, neighbours: int, block: Block) -> None:
    plan = plan_for(
        [replace(block("1"), affine=affine_of((between, 1.5, 1.5)))], device="cpu", dimensions="2.5d"
    )
    assert plan.preparation.neighbours == neighbours
    assert plan.network.arguments["in_channels"] == 2 * neighbours + 1
    assert (plan.network.arguments["spatial_dims"], plan.inference.patch_size) == (
        2,
        plan.sampling.size,
    )


def test_volumes_are_planned_with_windows_and_whole_batches(block: Block) -> None:
    plan = plan_for([block("1", size=(20, 11, 13))], device="cpu", dimensions="3d")
    assert plan.network.arguments["spatial_dims"] == 3
    assert plan.sampling.size == plan.inference.patch_size == plan.preparation.min_size
    assert (plan.sampling.batch_size, plan.inference.batch_size, plan.sampling.steps) == (2, 2, 4)
    assert plan.reasons["sampling.size"] == "volumes: as asked"


def test_a_small_memory_makes_patches_of_volumes_small(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    case = replace(block("1", size=(64, 64, 64)), affine=affine_of((1.0, 1.0, 1.0)))
    sizes = []
    for held in (10**9, 2 * 32 * 32 * 64):
        monkeypatch.setattr(planning, "_voxels_held", lambda *_, held=held: held)
        sizes.append(plan_for([case], device="cpu", dimensions="3d").sampling.size)
    assert sizes == [(64, 64, 64), (32, 32, 64)]


def test_half_of_the_free_memory_holds_two_patches(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for([block("1")], device="cpu", dimensions="3d")
    fixed, of_patch = machine.bytes_of_step(plan.network, loss_of(plan), channels=1, size=(32, 32, 32))
    # Beyond the weights: twice what two volumes of 32 keep, and twice that again for other work.
    monkeypatch.setattr(machine, "free_bytes", lambda _: fixed + 2 * 2 * 2 * of_patch)
    assert planning._voxels_held(plan.preparation, plan.labels, CPU) == 2 * 32**3
    monkeypatch.setattr(machine, "free_bytes", lambda _: fixed - 1)
    assert planning._voxels_held(plan.preparation, plan.labels, CPU) == 0


def test_windows_that_overlap_make_a_validation_of_volumes_dearer(
    block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guided_attention.recipes._shapes._PATCH", {"cpu": 32**3, "cuda": 32**3})
    plan = plan_for(
        [replace(block("1", size=(96, 64, 32)), affine=affine_of((1.0, 1.0, 1.0)))],
        device="cpu",
        dimensions="3d",
    )
    # 5 * 3 * 1 windows of one patch, against 3 times 2 patches in each of 6 steps.
    assert (plan.sampling.size, plan.sampling.steps) == ((32, 32, 32), 6)
    assert "takes about 42% of the time of an epoch" in plan.reasons["training.validate_every"]
    assert plan.training.validate_every == 6
