"""What a plan names, as objects: training batches, loss, optimizer, schedule, predictor."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from guided_attention.case import Case
from guided_attention.inference import PostProcessing, Predictor
from guided_attention.losses import CrossEntropyLoss, DiceCrossEntropyLoss, DiceLoss, GuidedAttentionLoss
from guided_attention.preparation import Prepared
from guided_attention.recipes._plan_records import OptimizerPlan
from guided_attention.recipes.plan import Plan
from guided_attention.sampling import Chain, FlipRotate, RandomIntensity, SliceDataset
from guided_attention.training import Schedule, cosine_decay, polynomial_decay

__all__ = ["loader_of", "loss_of", "optimizer_of", "predictor_of", "schedule_of"]

_MOMENTUM = 0.99


def predictor_of(plan: Plan, model: nn.Module) -> Predictor:
    """Return what the trained network becomes, on the device where it is."""
    chosen = plan.inference
    return Predictor(
        model,
        plan.preparation,
        plan.labels,
        device=None,
        batch_size=chosen.batch_size,
        precision=chosen.precision,
        postprocess=PostProcessing(keep_largest=plan.labels.values if chosen.keep_largest else ()),
    )


def loader_of(
    plan: Plan, cases: Iterable[Case | Prepared], device: torch.device
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return the training batches."""
    chosen = plan.sampling
    turn = FlipRotate(chosen.flip, chosen.mirror, chosen.rotate, chosen.degrees)
    slices = SliceDataset(
        cases,
        plan.preparation,
        plan.labels,
        augment=Chain((turn, RandomIntensity(chosen.intensity))),
        size=chosen.size,
        foreground_only=chosen.foreground_only,
        slice_step=chosen.slice_step,
    )
    return DataLoader(
        slices,
        batch_size=chosen.batch_size,
        shuffle=True,
        drop_last=len(slices) >= chosen.batch_size,
        num_workers=chosen.workers,
        pin_memory=device.type == "cuda",
    )


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
    if chosen.name == "sgd":
        return torch.optim.SGD(weights, lr=lr, weight_decay=decay, momentum=_MOMENTUM, nesterov=True)
    return torch.optim.AdamW(weights, lr=lr, weight_decay=decay)


def schedule_of(plan: Plan) -> Schedule | None:
    """Return the schedule of the learning rate; None keeps it constant."""
    chosen = plan.schedule
    if chosen.name == "polynomial":
        return polynomial_decay(chosen.power)
    return cosine_decay(chosen.warmup) if chosen.name == "cosine" else None
