"""What a plan names, as objects: training batches, loss, optimizer, schedule, predictor."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from guided_attention.case import Case
from guided_attention.inference import PostProcessing, Predictor
from guided_attention.inference.mirrors import MIRROR_AXES
from guided_attention.losses import CrossEntropyLoss, DiceCrossEntropyLoss, DiceLoss, GuidedAttentionLoss
from guided_attention.preparation import Prepared
from guided_attention.recipes._plan_records import OptimizerPlan
from guided_attention.recipes._shapes import Shapes
from guided_attention.recipes.plan import Plan
from guided_attention.sampling import (
    Augmentation,
    IntensityCurve,
    Mirror,
    PatchBatches,
    PatchDataset,
    default_augmentation,
)
from guided_attention.training import Schedule, cosine_decay, polynomial_decay

__all__ = ["augmentation_of", "loader_of", "loss_of", "optimizer_of", "predictor_of", "schedule_of"]

_MOMENTUM = 0.99


def predictor_of(plan: Plan, model: nn.Module, *, mirrored: bool = True) -> Predictor:
    """Return what the trained network becomes, on the device where it is; for validation without mirrored copies."""
    chosen = plan.inference
    return Predictor(
        model,
        plan.preparation,
        plan.labels,
        device=None,
        batch_size=chosen.batch_size,
        precision=chosen.precision,
        patch_size=chosen.patch_size,
        overlap=chosen.overlap,
        mirror_axes=chosen.mirror_axes if mirrored else (),
        postprocess=PostProcessing(keep_largest=plan.labels.values if chosen.keep_largest else ()),
    )


def loader_of(
    plan: Plan, cases: Iterable[Case | Prepared], device: torch.device
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return the training batches."""
    chosen = plan.sampling
    patches = PatchDataset(cases, plan.preparation, plan.labels, size=chosen.size)
    batches = PatchBatches(
        patches, chosen.batch_size, chosen.steps, foreground=chosen.foreground, seed=plan.seed
    )
    return DataLoader(
        patches, batch_sampler=batches, num_workers=chosen.workers, pin_memory=device.type == "cuda"
    )


def augmentation_of(plan: Plan) -> Augmentation | None:
    """Return the random changes of patches; None for none."""
    chosen, preparation, size = plan.augmentation, plan.preparation, plan.sampling.size
    if chosen.strength == "none" and not chosen.mirror_axes:
        return None
    slice_axis = preparation.slice_axis
    assert slice_axis is not None  # noqa: S101 - a plan is fitted
    axes = [MIRROR_AXES[axis] + len(size) for axis in chosen.mirror_axes]
    named = default_augmentation(
        3 if len(size) == len(MIRROR_AXES) else 2,
        labels=plan.labels,
        patch_size=size,
        spacing_mm=Shapes.of(preparation).spacing_mm,
        slice_axis=slice_axis,
        neighbours=preparation.neighbours,
        mirror_axes=axes,
        strength="standard" if chosen.strength == "none" else chosen.strength,
    )
    if chosen.strength == "none":
        return Augmentation(tuple(change for change in named.changes if isinstance(change, Mirror)))
    if not chosen.curve_probability:
        return named
    curve = IntensityCurve(chosen.curve_probability, alike=preparation.neighbours > 0)
    return Augmentation((*named.changes, curve))


def loss_of(plan: Plan) -> GuidedAttentionLoss:
    """Return the loss."""
    kinds = {"dice_cross_entropy": DiceCrossEntropyLoss, "cross_entropy": CrossEntropyLoss, "dice": DiceLoss}
    chosen = plan.loss
    return GuidedAttentionLoss(
        kinds[chosen.segmentation](ignore_index=plan.labels.ignore_index),
        segmentation_weight=chosen.segmentation_weight,
        guidance_weight=chosen.guidance_weight,
        reconstruction_weight=chosen.reconstruction_weight,
    )


def optimizer_of(chosen: OptimizerPlan, model: nn.Module) -> Optimizer:
    """Return the optimizer of a network's parameters."""
    weights, lr, decay = model.parameters(), chosen.lr, chosen.weight_decay
    # Fused, on a CPU too: one pass over the weights in place of a dozen.
    if chosen.name == "sgd":
        return torch.optim.SGD(
            weights, lr=lr, weight_decay=decay, momentum=_MOMENTUM, nesterov=True, fused=True
        )
    return torch.optim.AdamW(weights, lr=lr, weight_decay=decay, fused=True)


def schedule_of(plan: Plan) -> Schedule | None:
    """Return the schedule of the learning rate; None keeps it constant."""
    chosen = plan.schedule
    if chosen.name == "polynomial":
        return polynomial_decay(chosen.power)
    return cosine_decay(chosen.warmup) if chosen.name == "cosine" else None
