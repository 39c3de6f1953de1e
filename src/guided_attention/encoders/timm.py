"""Any network of timm as an encoder."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from guided_attention._checks import needs_extra, require, require_positive
from guided_attention._typing import Image

__all__ = ["TimmEncoder"]

_FINEST = 4
"""Maps of a smaller stride are left out: attention on them would be slow, and the paper's network has none."""

_BRANCHED = "hrnet"
"""The family whose branches add up only where the coarsest stride divides the image's sides."""


class TimmEncoder(nn.Module):
    """A network of timm without its classifier: one map for each of its stages from a quarter of the image's side down.

    ::

        maps(x) = [map for map of network(x) if its stride >= 4]

    Maps that timm hands out channels last, as some networks do, are turned to channels first.

    Args:
        name: As ``timm.list_models()`` has it, a tag of pretrained weights behind a dot included.
        in_channels: Channels of the image; timm adapts pretrained weights to them.
        pretrained: Whether to download timm's weights.
        weights: The path of a state dict with timm's names, loaded instead; the classifier's entries are left out. timm
            loads it loosely: entries that the file lacks stay random, and nothing says so.

    Attributes:
        out_channels: Channels of the maps that are kept.
        strides: What timm says each map is smaller by. Networks that pad round sides that do not divide up, those that
            cut their images into patches (ConvNeXt) down.
        in_channels: Channels of the image.
        network: timm's network, with its parameters' names.

    Shape:
        In ``(batch, in_channels, height, width)``; out the maps, fine to coarse. Which sizes a network takes is its own
        affair: convolutional ones take any from their coarsest stride up, Swin only the size that its name ends in.
        HRNet wants multiples of its coarsest stride: the image is filled up with zeros below and to the right, and of
        the maps what covers the image is kept.

    Raises:
        ModuleNotFoundError: timm is not installed.
        ImportError: It is, and cannot be imported: its torchvision does not belong to the torch that is installed.
        ValueError: The name is unknown, the network does not hand out maps, both `pretrained` and `weights` are given,
            or `in_channels` is below 1.
        FileNotFoundError: `weights` is a path where no file lies.
        RuntimeError: timm has no weights for this network, or those of the file do not fit (timm says which).

    Example:
        >>> from guided_attention.encoders import TimmEncoder
        >>> try:
        ...     TimmEncoder("resnet34d", in_channels=0)
        ... except ValueError as error:
        ...     print(error)
        `in_channels` must be above 0, got 0.

    References:
        Wightman, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models.
    """

    def __init__(
        self,
        name: str,
        *,
        in_channels: int = 1,
        pretrained: bool = False,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        require_positive("in_channels", in_channels)
        require(not (pretrained and weights), "weights", "None where `pretrained` is true", repr(weights))
        if weights is not None and not Path(weights).is_file():
            message = f"`weights` must be None or the path of a state dict, but no file lies at {weights}."
            raise FileNotFoundError(message)
        self.network = _features_of(name, in_channels, pretrained, weights)
        reductions = [int(reduction) for reduction in self.network.feature_info.reduction()]
        channels = self.network.feature_info.channels()
        self._kept = tuple(i for i, reduction in enumerate(reductions) if reduction >= _FINEST)
        layout = getattr(self.network, "output_fmt", "NCHW")
        self._channels_last = getattr(layout, "value", layout) == "NHWC"
        self._branched = name.startswith(_BRANCHED)
        self.in_channels = in_channels
        self.out_channels: tuple[int, ...] = tuple(int(channels[i]) for i in self._kept)
        self.strides: tuple[int, ...] = tuple(reductions[i] for i in self._kept)

    def forward(self, x: Image) -> list[Tensor]:
        """Return the maps of stride 4 and more, fine to coarse."""
        if self._branched:
            return self._of_filled_up(x)
        maps = self.network(x)
        kept = [maps[i] for i in self._kept]
        return [map_.permute(0, 3, 1, 2).contiguous() for map_ in kept] if self._channels_last else kept

    def _of_filled_up(self, x: Tensor) -> list[Tensor]:
        height, width = x.shape[2:]
        coarsest = self.strides[-1]
        maps = self.network(F.pad(x, (0, -width % coarsest, 0, -height % coarsest)))
        return [
            maps[i][:, :, : -(-height // stride), : -(-width // stride)]
            for i, stride in zip(self._kept, self.strides, strict=True)
        ]


def _features_of(name: str, in_channels: int, pretrained: bool, weights: str | Path | None) -> Any:  # noqa: ANN401
    """Return timm's network that hands out its maps."""
    timm = _timm()
    _require_known(name, timm.list_models())
    file = {} if weights is None else {"file": str(weights)}
    try:
        return timm.create_model(
            name,
            pretrained=pretrained or weights is not None,
            pretrained_cfg_overlay=file,
            features_only=True,
            in_chans=in_channels,
        )
    except (RuntimeError, AttributeError, TypeError, AssertionError) as error:
        # timm has no error of its own for this: each of these names what was missing. Those of weights pass.
        if not any(word in str(error) for word in ("features_only", "feature_info", "out_indices")):
            raise
        message = f"`name` must be a network of timm that hands out its maps, got {name!r} ({error})."
        raise ValueError(message) from error


def _timm() -> Any:  # noqa: ANN401
    with needs_extra("timm"):
        try:
            import timm  # noqa: PLC0415
        except RuntimeError as error:  # torchvision's, where its operators do not fit the torch beside it
            message = f"timm cannot be imported: {error}. Install a torchvision that belongs to this torch."
            raise ImportError(message) from error
    return timm


def _require_known(name: str, known: list[str]) -> None:
    """Raise unless timm has a network of that name; what follows a dot is the tag of its weights."""
    architecture = name.partition(".")[0]
    close = get_close_matches(architecture, known, n=3)
    cure = f"Close ones: {', '.join(close)}." if close else "timm.list_models() lists them."
    require(architecture in known, "name", "a network of timm", repr(name), cure=cure)
