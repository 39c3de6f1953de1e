"""Every network of the paper's tables by the name it has there: as published, and tiny for a smoke run."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from baselines import attention_unet, pan, unet
from guided_attention.models import (
    daf,
    danet,
    ms_cam,
    ms_danet,
    ms_dist,
    ms_dual,
    ms_dual_guided,
    ms_pam,
)

Builder = Callable[[int, int], nn.Module]
"""Takes channels of the image and classes to a network."""

PROPOSED = "MS-Dual-Guided"
ABLATION = ["DAF", "MS-PAM", "MS-CAM", "MS-DANet", "MS-Dual", PROPOSED]
BASELINES = ["UNet", "DANet", "PAN (ResNet34)", "PAN (ResNet101)", "DAF", "UNet Attention", PROPOSED]
STEPPED: dict[str, Callable[..., nn.Module]] = {
    "MS-Dual": ms_dual,
    PROPOSED: ms_dual_guided,
    "w/out deep supervision": partial(ms_dual_guided, deeply_supervised=False),
    "w/out encoder-decoder": ms_dist,
}
EPOCHS = {"DANet": 400, "PAN (ResNet34)": 400, "PAN (ResNet101)": 400}  # all others: 250

_GUIDED_ONE_STEP = "printed: 1,280 more than its layers have"
_MONAI = "MONAI's, not the authors'"
NOTES = {
    "MS-CAM": "printed: 20,000 more than its layers have, a slip",
    "MS-Dual-Guided (1 step)": _GUIDED_ONE_STEP,
    "w/out deep supervision (1 step)": _GUIDED_ONE_STEP,
    "DANet": "printed: with an unused layer of 1,000 classes, 2,049,000 more",
    "UNet": _MONAI,
    "UNet Attention": _MONAI,
    "PAN (ResNet34)": "segmentation-models-pytorch's, not the authors'",
    "PAN (ResNet101)": "segmentation-models-pytorch's, not the authors'",
}


def name_of(model: str, steps: int) -> str:
    """Return the name of a model of Table II with that many steps; two go without saying.

    >>> name_of("MS-Dual", 1), name_of("MS-Dual", 2), name_of("MS-Dual", 3)
    ('MS-Dual (1 step)', 'MS-Dual', 'MS-Dual (3 steps)')
    """
    return model if steps == 2 else f"{model} ({steps} step{'s' * (steps > 1)})"  # noqa: PLR2004


STEPS = [name_of(model, steps) for steps in (1, 2, 3, 5) for model in STEPPED]
TABLES = {1: ABLATION, 2: STEPS, 3: BASELINES}


def networks_of(tables: Iterable[int]) -> list[str]:
    """Return the names in the tables, each once."""
    return list(dict.fromkeys(name for table in tables for name in TABLES[table]))


class TinyEncoder(nn.Module):
    """Four maps of few channels at the usual strides: enough to send a smoke run through every part."""

    out_channels: tuple[int, ...] = (4, 6, 8, 10)
    strides: tuple[int, ...] = (4, 8, 16, 32)

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        widths = (in_channels, *self.out_channels)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(widths[s], widths[s + 1], 5, stride=4 if s == 0 else 2, padding=2), nn.ReLU()
            )
            for s in range(4)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the four maps, fine to coarse."""
        maps: list[Tensor] = []
        for stage in self.stages:
            maps.append(stage(maps[-1] if maps else x))
        return maps


def builders(*, smoke: bool) -> dict[str, Builder]:
    """Return a function that builds each network of the tables."""

    def ours(build: Callable[..., nn.Module], **settings: Any) -> Builder:  # noqa: ANN401
        def sized(in_channels: int, num_classes: int) -> nn.Module:
            size = {"encoder": TinyEncoder(in_channels), "channels": 4} if smoke else {}
            return build(in_channels, num_classes, **size, **settings)

        return sized

    def small_danet(in_channels: int, num_classes: int) -> nn.Module:
        return danet(in_channels, num_classes, encoder=TinyEncoder(in_channels))

    narrow: dict[str, Any] = {"channels": (4, 4, 8, 8, 16)} if smoke else {}
    return {
        "DAF": ours(daf),
        "MS-PAM": ours(ms_pam),
        "MS-CAM": ours(ms_cam),
        "MS-DANet": ours(ms_danet),
        "UNet": partial(unet, **narrow),
        "UNet Attention": partial(attention_unet, **narrow),
        "DANet": small_danet if smoke else danet,
        "PAN (ResNet34)": partial(pan, encoder="resnet18" if smoke else "resnet34"),
        "PAN (ResNet101)": partial(pan, encoder="resnet18" if smoke else "resnet101"),
        **{
            name_of(model, steps): ours(build, steps=steps)
            for model, build in STEPPED.items()
            for steps in (1, 2, 3, 5)
        },
    }


def parameter_counts() -> dict[str, int | str]:
    """Count the parameters of every network as published; where it cannot be built, say why."""
    counts: dict[str, int | str] = {}
    for name, build in builders(smoke=False).items():
        try:
            with torch.device("meta"):  # shapes without memory
                counts[name] = sum(parameter.numel() for parameter in build(1, 5).parameters())
        except ImportError as error:
            counts[name] = str(error)
    return counts
