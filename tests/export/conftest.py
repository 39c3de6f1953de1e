"""Networks that are compiled and exported, the size of the example and the sizes that they meet afterwards."""

import inspect

import pytest
import torch
from tests.modules import drawn, opened
from torch import Tensor, nn

from guided_attention import CAM, MSGA, PAM, GuidedAttention
from guided_attention.attention import AttendedFeatures
from guided_attention.encoders import resnet_encoder

needs_recent_torch = pytest.mark.skipif(
    torch.__version__ < (2, 13),
    reason="torch 2.6 binds a graph to sides that are odd, or even; 2.13 does not",
)


class _FinestAndCoarsest(nn.Module):
    """The whole of a ResNet, but two of its four maps: half of the scales, half of the time that the graph takes."""

    in_channels, out_channels, strides = 1, (64, 512), (4, 32)

    def __init__(self) -> None:
        super().__init__()
        self.whole = resnet_encoder("resnet18")

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.whole(x)[::3]


NETWORKS = {
    "PAM": lambda: PAM(3, reduction=2),
    "CAM": CAM,
    "GuidedAttention": lambda: GuidedAttention(3, steps=1),
    "MSGA": lambda: MSGA(num_classes=3, encoder=_FinestAndCoarsest(), channels=8, steps=1),
}
BLOCKS = [name for name in NETWORKS if name != "MSGA"]

# Batch, height and width of the example, then others: one of them divides by four, where an autoencoder has nothing to
# resize. A network wants more than 32 pixels a side, so that its coarsest map has more than one position.
_BLOCK_SIZES = [(2, 11, 13), (5, 17, 29), (7, 23, 8), (11, 12, 16)]
_NETWORK_SIZES = [(2, 37, 53), (3, 67, 43), (5, 41, 61), (7, 64, 96)]


def network(name: str) -> nn.Module:
    """Return the network of that name with its gates open, in evaluation mode."""
    return opened(NETWORKS[name]()).eval()


def images(name: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, list[Tensor]]:
    """Return the example of a network, and inputs of other sizes."""
    sizes = _NETWORK_SIZES if name == "MSGA" else _BLOCK_SIZES
    channels = 1 if name == "MSGA" else 3
    example, *others = (drawn(batch, channels, *space, dtype=dtype) for batch, *space in sizes)
    return example, others


@pytest.fixture(autouse=True)
def _as_users_have_it(without_shape_checks, monkeypatch):
    """Take the check of annotations off, which users do not have, and which torch can neither trace nor compile."""
    del without_shape_checks
    # Switched off, the check still is a wrapper around every function; that around a record stops torch.
    monkeypatch.setattr(AttendedFeatures, "__init__", inspect.unwrap(AttendedFeatures.__init__))
