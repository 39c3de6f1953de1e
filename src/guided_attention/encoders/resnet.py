"""ResNet and ResNeXt encoders with torchvision's parameter names."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import Tensor, nn

from guided_attention._checks import require, require_choice, require_count, require_type
from guided_attention._files import PathLike
from guided_attention._layers import batch_norm, conv, recomputed
from guided_attention._maps import require_map
from guided_attention._typing import FeatureMap, Image, SpatialDims
from guided_attention.encoders._weights import downloaded, load, read

__all__ = ["OutputStride", "ResNetEncoder", "ResNetName", "resnet_encoder"]

ResNetName: TypeAlias = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnext50_32x4d",
    "resnext101_32x4d",
    "resnext101_32x8d",
]
"""The published networks that `resnet_encoder` builds."""

OutputStride: TypeAlias = Literal[8, 16, 32]
"""Factor by which the coarsest map of a ResNet is smaller than the image."""


@dataclass(frozen=True)
class _Layout:
    """The numbers of a published network: blocks per stage, kind of block, file of torchvision's ImageNet weights."""

    depths: tuple[int, int, int, int]
    bottleneck: bool = False
    groups: int = 1
    base_width: int = 64
    imagenet: str | None = None


@dataclass(frozen=True)
class _Step:
    """Stride and dilation of a block.

    The first convolution 3 x 3 of a dilated stage has the dilation of the stage before it, as in torchvision.
    """

    stride: int = 1
    dilation: int = 1
    first_dilation: int = 1


_LAYOUTS: dict[str, _Layout] = {
    "resnet18": _Layout((2, 2, 2, 2), imagenet="resnet18-f37072fd.pth"),
    "resnet34": _Layout((3, 4, 6, 3), imagenet="resnet34-b627a593.pth"),
    "resnet50": _Layout((3, 4, 6, 3), bottleneck=True, imagenet="resnet50-0676ba61.pth"),
    "resnet101": _Layout((3, 4, 23, 3), bottleneck=True, imagenet="resnet101-63fe2227.pth"),
    "resnext50_32x4d": _Layout(
        (3, 4, 6, 3), bottleneck=True, groups=32, base_width=4, imagenet="resnext50_32x4d-7cdf4587.pth"
    ),
    "resnext101_32x4d": _Layout((3, 4, 23, 3), bottleneck=True, groups=32, base_width=4),
    "resnext101_32x8d": _Layout(
        (3, 4, 23, 3), bottleneck=True, groups=32, base_width=8, imagenet="resnext101_32x8d-8ba56ff5.pth"
    ),
}

_IMAGENET_ROOT = "https://download.pytorch.org/models/"


class _BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, step: _Step, layout: _Layout, dims: SpatialDims) -> None:
        super().__init__()
        del layout  # basic blocks have no groups and no other width
        stride, dilation = step.stride, step.first_dilation
        self.conv1 = conv(
            in_channels, width, 3, spatial_dims=dims, stride=stride, dilation=dilation, bias=False
        )
        self.bn1 = batch_norm(width, spatial_dims=dims)
        self.conv2 = conv(width, width, 3, spatial_dims=dims, dilation=step.dilation, bias=False)
        self.bn2 = batch_norm(width, spatial_dims=dims)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, width, step.stride, dims)

    def forward(self, x: FeatureMap) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        joined: Tensor = self.relu(self.bn2(self.conv2(out)) + self.downsample(x))
        return joined


class _Bottleneck(nn.Module):
    """Convolutions 1 x 1, 3 x 3 (in groups), 1 x 1 beside a shortcut; the stride sits on the 3 x 3."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, step: _Step, layout: _Layout, dims: SpatialDims) -> None:
        super().__init__()
        stride, dilation = step.stride, step.first_dilation
        inner, groups = width * layout.base_width // 64 * layout.groups, layout.groups
        self.conv1 = conv(in_channels, inner, 1, spatial_dims=dims, bias=False)
        self.bn1 = batch_norm(inner, spatial_dims=dims)
        self.conv2 = conv(
            inner, inner, 3, spatial_dims=dims, stride=stride, groups=groups, dilation=dilation, bias=False
        )
        self.bn2 = batch_norm(inner, spatial_dims=dims)
        self.conv3 = conv(inner, 4 * width, 1, spatial_dims=dims, bias=False)
        self.bn3 = batch_norm(4 * width, spatial_dims=dims)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, 4 * width, step.stride, dims)

    def forward(self, x: FeatureMap) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        joined: Tensor = self.relu(self.bn3(self.conv3(out)) + self.downsample(x))
        return joined


def _shortcut(in_channels: int, out_channels: int, stride: int, dims: SpatialDims) -> nn.Sequential:
    """Return the projection beside a block; an empty one where the shape stays."""
    if stride == 1 and in_channels == out_channels:
        return nn.Sequential()
    return nn.Sequential(
        conv(in_channels, out_channels, 1, spatial_dims=dims, stride=stride, bias=False),
        batch_norm(out_channels, spatial_dims=dims),
    )


class ResNetEncoder(nn.Module):
    """A ResNet or ResNeXt without its classifier: one map after each of its four stages.

    Parameters have torchvision's names (``conv1``, ``bn1``, ``layer1.0.conv1``, …), so that its state dicts load.
    `resnet_encoder` builds one.

    Attributes:
        out_channels: Channels of the four maps: 64, 128, 256, 512, or four times as many with bottleneck blocks.
        strides: 4, 8, 16, 32, none above the output stride.
        in_channels: Channels of the image.
        spatial_dims: 2 for images, 3 for volumes.

    Shape:
        In ``(batch, in_channels, *space)``, any size from 1 up; out four maps, fine to coarse, each side divided by the
        stride and rounded up.

    Raises:
        ArgumentError: In `forward`, `x` does not fit.

    References:
        He et al., CVPR 2016; Xie et al., CVPR 2017. The stride of a bottleneck sits on its 3 x 3 convolution, as in
        torchvision ("ResNet v1.5").
    """

    def __init__(
        self,
        layout: _Layout,
        *,
        in_channels: int,
        spatial_dims: SpatialDims,
        output_stride: OutputStride = 32,
    ) -> None:
        super().__init__()
        require_type("layout", layout, _Layout, "that of a published network", "Call `resnet_encoder`.")
        require_count("in_channels", in_channels)
        require_choice("spatial_dims", spatial_dims, (2, 3))
        self.pad, self.conv1 = _stem(in_channels, spatial_dims)
        self.bn1 = batch_norm(64, spatial_dims=spatial_dims)
        self.relu = nn.ReLU(inplace=True)
        pool = nn.MaxPool2d if spatial_dims == 2 else nn.MaxPool3d  # noqa: PLR2004
        self.maxpool = pool(kernel_size=3, stride=2, padding=1)
        block = _Bottleneck if layout.bottleneck else _BasicBlock
        self.out_channels: tuple[int, ...] = tuple(block.expansion * width for width in (64, 128, 256, 512))
        self.strides: tuple[int, ...] = tuple(min(stride, output_stride) for stride in (4, 8, 16, 32))
        self.in_channels = in_channels
        self.spatial_dims = spatial_dims
        inputs = (64, *self.out_channels[:-1])
        stages = [
            _stage(block, layout, stage, inputs[stage], spatial_dims, output_stride) for stage in range(4)
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.grad_checkpointing = False
        _initialise(self)

    def forward(self, x: Image) -> list[Tensor]:
        """Return the maps after the four stages, fine to coarse."""
        like = self.conv1.weight
        require_map("x", x, channels=self.in_channels, spatial_dims=self.spatial_dims, like=like)
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.pad(x)))))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x = recomputed(block, x) if self.grad_checkpointing else block(x)
            maps.append(x)
        return maps

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only the maps between blocks for the backward pass: see `SegmentationModel.set_grad_checkpointing`."""
        self.grad_checkpointing = enable


def _stem(in_channels: int, dims: SpatialDims) -> tuple[nn.Module, nn.Conv2d | nn.Conv3d]:
    """Return the padding and the convolution 7 x 7 that begin the network.

    Volumes have a separate layer for the padding: with the convolution's own padding, torch's CPU kernel for the
    gradient of the weights (torch 2.13, oneDNN, fewer than 4 input channels) writes outside its memory for volumes of
    5 slices or fewer, and the process dies. The numbers are the same.
    """
    if dims == 2:  # noqa: PLR2004
        return nn.Identity(), conv(in_channels, 64, 7, spatial_dims=2, stride=2, bias=False)
    return nn.ConstantPad3d(3, 0.0), nn.Conv3d(in_channels, 64, 7, stride=2, bias=False)


def _stage(
    block: type[_BasicBlock | _Bottleneck],
    layout: _Layout,
    stage: int,
    in_channels: int,
    dims: SpatialDims,
    output_stride: OutputStride,
) -> nn.Sequential:
    width = 64 * 2**stage
    first, rest = _steps(stage, output_stride)
    blocks = [block(in_channels, width, first, layout, dims)]
    blocks += [
        block(block.expansion * width, width, rest, layout, dims) for _ in range(layout.depths[stage] - 1)
    ]
    return nn.Sequential(*blocks)


def _steps(stage: int, output_stride: OutputStride) -> tuple[_Step, _Step]:
    """Return the steps of the first block of a stage and of the others: dilation replaces omitted strides."""
    before, after = ((4 * 2**stage // 2), 4 * 2**stage) if stage > 0 else (4, 4)
    previous, dilation = max(1, before // output_stride), max(1, after // output_stride)
    stride = 1 if after == before or after > output_stride else 2
    return _Step(stride, dilation, previous), _Step(1, dilation, dilation)


def _initialise(encoder: nn.Module) -> None:
    """Initialize the convolutions as torchvision does (He, fan-out); batch norms start as identities.

    Weights without memory are left out: for their normal distribution, torch imports its compiler, one to two seconds.
    """
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def resnet_encoder(
    name: ResNetName,
    *,
    in_channels: int = 1,
    encoder_weights: PathLike | None = None,
    spatial_dims: SpatialDims = 2,
    output_stride: OutputStride = 32,
) -> ResNetEncoder:
    """Build a ResNet or ResNeXt encoder by its published name.

    Args:
        name: One of the seven names of `ResNetName`.
        in_channels: Channels of the image: any number.
        encoder_weights: None initializes at random (He, fan-out). ``"imagenet"`` downloads torchvision's weights
            (version 1) through torch.hub, which caches the file; its hash is checked at every use. Anything else is the
            path of a state dict with torchvision's names, as ``torch.save`` writes it.
        spatial_dims: 2 for images, 3 for volumes (without weights).
        output_stride: Factor by which the coarsest map is smaller than the image. With 16 the last stage, with 8 the
            last two keep their size and use dilated kernels instead (2, then 4), as torchvision's
            ``replace_stride_with_dilation``. The parameters are the same.

    Returns:
        The encoder. The classifier ``fc`` of a state dict is omitted. A first convolution for another number of
        channels is adapted: channel ``i`` takes the kernel of channel ``i`` modulo the old number, all scaled by old /
        new. One channel in place of several takes the sum of their kernels, which is what a grey image copied into all
        of them would give.

    Raises:
        ArgumentError: An unknown name, a number out of range, or weights together with ``spatial_dims=3``.
        MissingFileError: `encoder_weights` is a path without a file.
        CheckpointError: The weights cannot be read or downloaded, or do not belong to this network.

    Example:
        >>> import torch
        >>> from guided_attention.encoders import resnet_encoder
        >>> encoder = resnet_encoder("resnet18", in_channels=2)
        >>> [tuple(map.shape) for map in encoder(torch.randn(1, 2, 65, 33))]
        [(1, 64, 17, 9), (1, 128, 9, 5), (1, 256, 5, 3), (1, 512, 3, 2)]
    """
    require_choice("name", name, tuple(_LAYOUTS))
    require_choice("output_stride", output_stride, (8, 16, 32))
    layout = _LAYOUTS[name]
    encoder = ResNetEncoder(
        layout, in_channels=in_channels, spatial_dims=spatial_dims, output_stride=output_stride
    )
    if encoder_weights is not None:
        require(spatial_dims == 2, "spatial_dims", "2 where weights are given", spatial_dims)  # noqa: PLR2004
        if encoder_weights == "imagenet":
            load(encoder, downloaded(_imagenet_url(name, layout)), encoder_weights)
        else:
            load(encoder, read(encoder_weights), encoder_weights)
    return encoder


def _imagenet_url(name: str, layout: _Layout) -> str:
    with_weights = ", ".join(key for key, value in _LAYOUTS.items() if value.imagenet)
    cure = f"torchvision publishes none for {name}; take one of {with_weights}, or give a file."
    require(layout.imagenet is not None, "encoder_weights", "None or a file", "'imagenet'", cure)
    return f"{_IMAGENET_ROOT}{layout.imagenet}"
