"""What the machine has: device, memory, cores, number formats, and what a step of training needs of it."""

import os
from math import ceil, prod
from pathlib import Path

import torch
from torch import Tensor, nn

from guided_attention._checks import require_type
from guided_attention._maps import chosen_device
from guided_attention.losses import GuidedAttentionLoss
from guided_attention.models import ModelSettings, build
from guided_attention.recipes._shapes import STRIDE
from guided_attention.training import TrainerConfig

__all__ = [
    "bytes_of_checkpoints",
    "bytes_of_step",
    "cores",
    "device_of",
    "free_bytes",
    "has_fast_bf16",
    "megabytes",
]

_UNKNOWN = 4 * 2**30
"""Free memory that is assumed where the system does not tell, 4 GiB."""
_MEASURED = 2**16
"""Voxels up to which a step is measured as it is."""
_FAST_BF16 = ("avx512_bf16", "amx_bf16")
_OF_A_WEIGHT = 20
"""Bytes of a weight in training: itself, its gradient, two moments of the optimizer, its average."""
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def device_of(name: str) -> torch.device:
    """Return the device of this name; ``"auto"`` is a GPU if there is one. Raise where it does not exist."""
    require_type("device", name, str, 'a torch device or "auto"')
    return chosen_device(nn.Identity(), name)


def free_bytes(device: torch.device) -> int:
    """Return the memory that is free: on a GPU its own, else that of the system within the limit of the container."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = [_available(), *(_left(limit, used) for limit, used in _CGROUPS)]
    return min((limit for limit in limits if limit is not None), default=_UNKNOWN)


def _available() -> int | None:
    """Return what the kernel counts as available, in bytes."""
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _left(limit: str, used: str) -> int | None:
    """Return what a container may still take; its limit is the word "max" where it has none."""
    most, now = _text(limit).strip(), _text(used).strip()
    return max(0, int(most) - int(now)) if most.isdigit() and now.isdigit() else None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:  # another system
        return ""


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is computed by the hardware of the device."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = _text("/proc/cpuinfo")
    return any(flag in flags for flag in _FAST_BF16)


def bytes_of_step(
    network: ModelSettings, loss: GuidedAttentionLoss, *, channels: int, size: tuple[int, ...]
) -> tuple[int, int]:
    """Measure the memory of a step of training: that of the weights, and that of each image, in bytes.

    A forward pass of two images on the CPU, in single precision, counts what it keeps for the backward pass. It grows
    as the voxels do, so that large images are measured by a part of them.
    """
    state = torch.random.get_rng_state()
    model = build(network).train()
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    weights = sum(value.numel() for value in model.parameters())
    part = _part_of(size)
    image = torch.rand(2, channels, *part)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        terms = loss(model.outputs(image), torch.zeros(2, *part, dtype=torch.long))
    torch.random.set_rng_state(state)
    of_images = sum(kept.values()) - 4 * weights if terms.total.requires_grad else 0
    return _OF_A_WEIGHT * weights, max(of_images, 0) * prod(size) // prod(part) // 2


def bytes_of_checkpoints(network: ModelSettings) -> int:
    """Return the free disk that a run asks for: its states and the one that is being written, and ``best.pt`` twice."""
    with torch.device("meta"):
        weights = sum(value.numel() for value in build(network).parameters())
    state = 4 * 4 * weights  # in single precision: the weights, their average, two moments of the optimizer
    return (TrainerConfig.keep + 1) * state + 2 * 4 * weights


def _part_of(size: tuple[int, ...]) -> tuple[int, ...]:
    """Return a size with sides halved, the longest first, until it can be measured in a second.

    Sides stay multiples of the stride: the network would fill up others.
    """
    part = list(size)
    while prod(part) > _MEASURED and max(part) > STRIDE:
        longest = part.index(max(part))
        part[longest] = STRIDE * ceil(part[longest] / 2 / STRIDE)
    return tuple(part)


def megabytes(count: float) -> str:
    """Return a number of bytes in a readable unit.

    >>> megabytes(3_500_000), megabytes(12_000_000_000)
    ('4 MB', '12.0 GB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"  # noqa: PLR2004
