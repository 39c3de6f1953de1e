"""Any network of timm as an encoder."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from guided_attention._checks import cut_list, needs_extra, require, require_count, require_type
from guided_attention._files import PathLike
from guided_attention._maps import first_weight, require_map
from guided_attention._typing import Image
from guided_attention.encoders._weights import checked_file, read
from guided_attention.errors import ArgumentError, CheckpointError, MissingPackageError

__all__ = ["TimmEncoder"]

_FINEST = 4
"""Maps of a smaller stride are omitted: attention on them would be slow, and the paper's network has none."""

_BRANCHED = "hrnet"
"""The family whose branches only add up where the coarsest stride divides the image's sides."""


class TimmEncoder(nn.Module):
    """A network of timm without its classifier: one map for each of its stages from a quarter of the image's side down.

    ::

        maps(x) = [map for map of network(x) if its stride >= 4]

    Maps that timm returns channels last, as some networks do, are turned to channels first. Batch norms that meet a
    single value a channel in training (one image whose map is 1 x 1) normalise by their running statistics, as those of
    the other encoders do; torch's own raise an error.

    Args:
        name: As ``timm.list_models()`` has it; behind a dot, a tag of pretrained weights.
        in_channels: Channels of the image; timm adapts weights to them.
        encoder_weights: None initializes at random. ``"pretrained"`` downloads timm's weights. Anything else is the
            path of a state dict with timm's names; the classifier's entries are omitted, and no other may be missing.

    Attributes:
        out_channels: Channels of the maps that are kept.
        strides: Factor by which each map is smaller, according to timm. Networks that pad round sides up, those that
            cut their images into patches (ConvNeXt) round them down.
        in_channels: Channels of the image.
        spatial_dims: 2.
        network: timm's network, with its parameters' names.

    Shape:
        In ``(batch, in_channels, height, width)``; out the maps, fine to coarse. Convolutional networks take any size
        from their coarsest stride up, Swin only the size that its name ends in. HRNet needs multiples of its coarsest
        stride: the image is padded with zeros at the bottom and right, and the maps are cut to cover the image.

    Raises:
        MissingPackageError: timm is not installed, or does not belong to the torch that is installed.
        ArgumentError: The name is unknown, the network has no maps, or a number is out of range; in `forward`, `x` does
            not fit.
        MissingFileError: `encoder_weights` is a path without a file.
        CheckpointError: timm has no weights for this network, cannot download them, or those of the file do not fit.

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

    spatial_dims = 2

    def __init__(self, name: str, *, in_channels: int = 1, encoder_weights: PathLike | None = None) -> None:
        super().__init__()
        require_type("name", name, str, "the name of a network of timm")
        require_count("in_channels", in_channels)
        if encoder_weights is not None and encoder_weights != "pretrained":
            encoder_weights = checked_file(encoder_weights, "pretrained")
        self.network = _features_of(name, in_channels, encoder_weights)
        reductions = [int(reduction) for reduction in self.network.feature_info.reduction()]
        channels = self.network.feature_info.channels()
        self._kept = tuple(i for i, reduction in enumerate(reductions) if reduction >= _FINEST)
        layout = getattr(self.network, "output_fmt", "NCHW")
        self._channels_last = getattr(layout, "value", layout) == "NHWC"
        self._branched = name.startswith(_BRANCHED)
        self.in_channels = in_channels
        self.out_channels: tuple[int, ...] = tuple(int(channels[i]) for i in self._kept)
        self.strides: tuple[int, ...] = tuple(reductions[i] for i in self._kept)
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_pre_hook(_before_norm)
                module.register_forward_hook(_after_norm, always_call=True)

    def forward(self, x: Image) -> list[Tensor]:
        """Return the maps of stride 4 and more, fine to coarse."""
        require_map("x", x, channels=self.in_channels, spatial_dims=2, like=first_weight(self))
        if self._branched:
            return self._of_padded(x)
        maps = self._maps(x)
        kept = [maps[i] for i in self._kept]
        return [map_.permute(0, 3, 1, 2).contiguous() for map_ in kept] if self._channels_last else kept

    def _maps(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor]
        if torch.compiler.is_compiling():
            maps = self.network(x)
            return maps
        try:
            maps = self.network(x)
        except (AssertionError, RuntimeError) as error:
            # timm's own check of the size is an assertion; convolutions and sums of maps speak of sizes.
            out_of_memory = isinstance(error, torch.OutOfMemoryError)
            if out_of_memory or (isinstance(error, RuntimeError) and " size" not in str(error)):
                raise
            message = f"`x` must be an image of a size that the network takes, got {tuple(x.shape)}: {error}"
            raise ArgumentError(message, argument="x") from error
        return maps

    def _of_padded(self, x: Tensor) -> list[Tensor]:
        height, width = x.shape[2:]
        coarsest = self.strides[-1]
        maps = self._maps(F.pad(x, (0, -width % coarsest, 0, -height % coarsest)))
        return [
            maps[i][:, :, : -(-height // stride), : -(-width // stride)]
            for i, stride in zip(self._kept, self.strides, strict=True)
        ]


def _before_norm(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Let a norm use its running statistics for a single value a channel, which has no variance."""
    (x, *_) = inputs
    if norm.training and not torch.compiler.is_compiling() and x.numel() == x.shape[1]:
        vars(norm).update(training=False, is_paused=True)


def _after_norm(norm: nn.Module, *_: object) -> None:
    if vars(norm).pop("is_paused", False):
        norm.training = True


def _features_of(name: str, in_channels: int, encoder_weights: PathLike | None) -> Any:  # noqa: ANN401
    """Return timm's network that returns its maps."""
    timm = _timm()
    _require_known(name, timm.list_models())
    file = None if encoder_weights == "pretrained" else encoder_weights
    state = None if file is None else read(file)
    try:
        network = timm.create_model(
            name,
            pretrained=encoder_weights is not None,
            pretrained_cfg_overlay={} if state is None else {"state_dict": dict(state)},
            features_only=True,
            in_chans=in_channels,
        )
    except (RuntimeError, AttributeError, TypeError, AssertionError, OSError, ValueError, KeyError) as error:
        # timm has no error of its own for a network without maps: each of these names what was missing.
        if any(word in str(error) for word in ("features_only", "feature_info", "out_indices")):
            message = f"`name` must be a network of timm that returns its maps, got {name!r} ({error})."
            raise ArgumentError(message, argument="name") from error
        if encoder_weights is None:
            raise
        message = f"`encoder_weights` must be weights that timm can load into {name}, got {encoder_weights}: {error}"
        raise CheckpointError(message, argument="encoder_weights", file=file) from error
    if state is not None:
        _require_all(network, state, file)
    return network


def _require_all(network: nn.Module, state: Mapping[str, Tensor], file: object) -> None:
    """Raise where the file lacks an entry of the network: timm itself would leave it random without a word."""
    # timm wraps networks in two ways: `layers.0.weight` becomes `layers_0.weight`, or `cls_token` `model.cls_token`.
    held = {name.replace(".", "_") for name in state}
    names = list(network.state_dict())
    wrapper = "model." if all(name.startswith("model.") for name in names) else ""
    wanted = [name.removeprefix(wrapper) for name in names if not name.endswith("num_batches_tracked")]
    missing = [name for name in wanted if name.replace(".", "_") not in held]
    got, cure = f"a file without {cut_list(missing)}", "Save the state_dict() of timm's own network."
    good = "weights of the whole network"
    require(not missing, "encoder_weights", good, got, cure, error=CheckpointError, file=file)


def _timm() -> Any:  # noqa: ANN401
    try:
        with needs_extra("timm"):
            import timm  # noqa: PLC0415
    except RuntimeError as error:  # torchvision's, where its operators do not fit the torch beside it
        message = f"timm cannot be imported: {error}. Install a torchvision that belongs to this torch."
        raise MissingPackageError(message, name="timm") from error
    return timm


def _require_known(name: str, known: list[str]) -> None:
    """Raise unless timm has a network of that name; what follows a dot is the tag of its weights."""
    architecture = name.partition(".")[0]
    close = get_close_matches(architecture, known, n=3)
    cure = f"Close ones: {', '.join(close)}." if close else "timm.list_models() lists them."
    require(architecture in known, "name", "a network of timm", repr(name), cure=cure)
