"""Inputs that do not fit meet the library's own errors, which name the argument, what came and what to do."""

import re

import numpy as np
import pytest
import torch
from tests.contracts.entries import ENTRIES, made_by
from tests.modules import drawn
from torch import nn

from guided_attention import CAM, PAM, DualAttention, GuidedAttention, MultiScaleFusion
from guided_attention.attention import (
    MultiScaleGatedAttention,
    MultiScaleGuidedAttention,
    PooledAttention,
    SemanticAutoencoder,
    attention_branch,
)
from guided_attention.encoders import ResNetEncoder, TimmEncoder, resnet_encoder
from guided_attention.errors import ArgumentError, ArgumentTypeError, CheckpointError, MissingFileError
from guided_attention.losses import (
    CrossEntropyLoss,
    DiceCrossEntropyLoss,
    DiceLoss,
    GuidedAttentionLoss,
    cross_entropy_loss,
    dice_loss,
    guidance_loss,
    reconstruction_loss,
)
from guided_attention.outputs import SegmentationOutput

pytestmark = pytest.mark.usefixtures("without_shape_checks", "narrow_resnets")

NO_TENSORS = {
    "None": lambda _: None,
    "numpy": lambda x: x.numpy(),
    "list": lambda x: x.tolist(),
    "text": lambda _: "x",
    "record": SegmentationOutput,
}
UNFIT = {
    "a rank less": lambda x: x[0],
    "another rank": lambda x: x[None],
    "one channel more": lambda x: torch.cat([x, x[:, :1]], dim=1),
    "integers": lambda x: (10 * x).long(),
    "half": lambda x: x.half(),
    "double": lambda x: x.double(),
    "complex": lambda x: x.to(torch.complex64),
    "another device": lambda x: x.to("meta"),
    "empty": lambda x: x[:0],
    "sparse": lambda x: x.to_sparse(),
}
CHANGES = NO_TENSORS | UNFIT
CASES = [
    (name, argument, change)
    for name, entry in ENTRIES.items()
    for argument in entry.inputs()
    for change in CHANGES
]
MODULES = [
    name
    for name in ENTRIES
    if name != "attention.CAM"
    and isinstance(made := ENTRIES[name].build(), nn.Module)
    and list(made.parameters())
]


@pytest.mark.parametrize(("name", "argument", "change"), CASES)
def test_a_tensor_that_does_not_fit_is_named(name, argument, change):
    entry = ENTRIES[name]
    given = entry.inputs()
    given[argument] = CHANGES[change](given[argument])
    if change in entry.accepts.get(argument, ()):
        entry.call(made_by(name), **given)
        return
    with pytest.raises(ArgumentTypeError if change in NO_TENSORS else ArgumentError) as caught:
        entry.call(made_by(name), **given)
    assert re.match(r"`[\w.\[\]]+` must be .*, got .*\.", str(caught.value))
    of_several = (
        name.startswith("losses") or name == "attention.attend"
    )  # there, either of two can be the odd one
    assert caught.value.argument in ({*given, "output", "class_weights"} if of_several else {argument})


@pytest.mark.parametrize("name", MODULES)
def test_half_precision_weights_want_half_precision_maps_or_autocast(name):
    entry, made = ENTRIES[name], made_by(name)
    with pytest.raises(
        ArgumentError, match=r"must be of the type of the weights, torch\.float16, got torch\.float32"
    ):
        entry.call(made_by(name).half(), **entry.inputs())
    expected = entry.call(made.bfloat16(), **{key: x.bfloat16() for key, x in entry.inputs().items()})
    assert expected is not None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        entry.call(made_by(name), **{key: x.bfloat16() for key, x in entry.inputs().items()})
        with pytest.raises(ArgumentError, match=r"got torch\.float64"):
            entry.call(made_by(name), **{key: x.double() for key, x in entry.inputs().items()})


CURES = {
    "`x` must be a tensor of shape (batch, 3, height, width), got a ndarray. Pass `torch.from_numpy(x)`.": np.zeros(
        (1, 3, 5, 7)
    ),
    "got one of shape (3, 5, 7). Add the missing axis: `x[None]` is a batch of one,": torch.zeros(3, 5, 7),
    "got one of shape (1, 3, 2, 5, 7). The argument `spatial_dims`": torch.zeros(1, 3, 2, 5, 7),
    "Move the channels to the second axis: `x.movedim(-1, 1)`.": torch.zeros(1, 5, 7, 3),
    "The number of channels is set where the block is built.": torch.zeros(1, 2, 5, 7),
    "`x` must be of a floating type, got torch.uint8. Pass `x.float()`.": torch.zeros(
        1, 3, 5, 7, dtype=torch.uint8
    ),
    "`x` must be on the device of the weights, cpu, got meta. Pass `x.to('cpu')`, or move": torch.zeros(
        1, 3, 5, 7, device="meta"
    ),
    "Pass `x.to(torch.float32)`, convert the module to torch.float16, or use torch.autocast.": torch.zeros(
        1, 3, 5, 7, dtype=torch.float16
    ),
    "`x` must be a tensor with at least one sample and one position": torch.zeros(1, 3, 0, 7),
    "`x` must be a dense tensor, got torch.sparse_coo. Pass `x.to_dense()`.": torch.zeros(
        1, 3, 5, 7
    ).to_sparse(),
}


@pytest.mark.parametrize("message", CURES)
def test_the_message_says_what_to_do(message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=re.escape(message)):
        PAM(3)(CURES[message])


MAP = drawn(2, 3, 5, 7)
ON_SCALES = {
    "guided": lambda: MultiScaleGuidedAttention(3, num_scales=2, steps=1),
    "gated": lambda: MultiScaleGatedAttention([nn.Conv2d(6, 3, 1) for _ in range(2)], channels=3),
    "pooled": lambda: PooledAttention(MultiScaleGuidedAttention(3, num_scales=2, steps=1)),
    "fusion": lambda: lambda maps, _: MultiScaleFusion((3, 3), channels=2)(maps),
}


@pytest.mark.parametrize("name", ON_SCALES)
@pytest.mark.parametrize(
    "maps", [None, MAP, {"a": MAP, "b": MAP}, 3, [], [MAP], (MAP,) * 3, iter([MAP, MAP]), "ab"]
)
def test_maps_that_are_no_list_of_that_many_are_named(name, maps):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=r"`(maps|features)(\[0\])?` must be a "):
        ON_SCALES[name]()(maps, MAP)


def test_maps_of_unlike_batches_cannot_be_fused():
    with pytest.raises(
        ArgumentError, match=r"`features\[1\]` must be of as many samples as `features\[0\]`, 2, got 1"
    ):
        MultiScaleFusion((3, 3), channels=2)([MAP, MAP[:1]])


def test_a_gate_of_another_shape_is_named():
    attention = MultiScaleGatedAttention([nn.Conv2d(6, 1, 1), nn.Conv2d(6, 3, 1, stride=2)], channels=3)
    with pytest.raises(
        ArgumentError, match=r"`gates\[0\]\(…\)` must be of the shape of `fused`, \(2, 3, 5, 7\)"
    ):
        attention([MAP, MAP], MAP)


def test_queries_keys_and_values_that_do_not_fit_together_are_named():
    from guided_attention.attention import attend

    query, key, value = drawn(2, 7, 3), drawn(2, 11, 3), drawn(2, 11, 5)
    for arguments, message in (
        ((query, key[:1], value), r"`key` must be of shape \(2, keys, 3\)"),
        ((query, drawn(2, 11, 4), value), r"`key` must be of shape \(2, keys, 3\)"),
        ((query, key, value[:, 1:]), r"`value` must be of shape \(2, 11, channels\), one value for each key"),
        ((query, key.double(), value), r"`key` must be torch\.float32 on cpu, .* Pass `key\.to\(query\)`"),
    ):
        with pytest.raises(ArgumentError, match=message):
            attend(*arguments)


@pytest.mark.parametrize("positions", [None, 3, [3], [(0.5, 1)], [("a", "b")], [None], [(True, False)]])
def test_positions_that_are_no_coordinates_are_named(positions):
    with pytest.raises(ArgumentTypeError, match="`positions` must be "):
        PAM(3).attention_map(MAP, positions)


COUNTS = {
    "channels": [
        PAM,
        GuidedAttention,
        MultiScaleGuidedAttention,
        SemanticAutoencoder,
        lambda channels: MultiScaleGatedAttention([nn.Identity()], channels),
        lambda channels: MultiScaleFusion((3,), channels=channels),
        lambda channels: attention_branch(3, CAM(), channels),
    ],
    "reduction": [lambda reduction: PAM(3, reduction=reduction)],
    "in_channels": [
        DualAttention,
        lambda in_channels: attention_branch(in_channels, CAM(), 3),
        lambda in_channels: MultiScaleFusion((3, in_channels)),
        lambda in_channels: resnet_encoder("resnet18", in_channels=in_channels),
        lambda in_channels: TimmEncoder("resnet18", in_channels=in_channels),
    ],
    "steps": [lambda steps: GuidedAttention(3, steps=steps)],
    "num_scales": [lambda num_scales: MultiScaleGuidedAttention(3, num_scales=num_scales)],
    "width": [lambda width: SemanticAutoencoder(3, width=width)],
    "factor": [lambda factor: PooledAttention(MultiScaleGuidedAttention(3), factor=factor)],
}


@pytest.mark.parametrize(
    ("name", "build"), [(name, build) for name, all_ in COUNTS.items() for build in all_]
)
def test_numbers_that_are_no_counts_are_named(name, build):
    for value in ("8", 8.0, True, (8,)):
        with pytest.raises(
            ArgumentTypeError, match=rf"`{name}` must be an integer, got {re.escape(repr(value))}"
        ):
            build(value)
    for value in (0, -3):
        with pytest.raises(ArgumentError, match=rf"`{name}` must be (above 0|at least 1), got {value}"):
            build(value)


def test_numbers_of_numpy_are_counts():
    assert PAM(np.int64(3), reduction=np.uint8(2)).query.weight.shape == (1, 3, 1, 1)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda: DualAttention(3, channel_attention=CAM()),
            ArgumentTypeError,
            "got a CAM. Pass a class or functools",
        ),
        (lambda: DualAttention(3, channel_attention="paper"), ArgumentTypeError, "got 'paper'. Pass a class"),
        (
            lambda: GuidedAttention(3, autoencoder="none"),
            ArgumentTypeError,
            "`autoencoder` must be a function",
        ),
        (
            lambda: GuidedAttention(3, compare_modules=True),
            ArgumentError,
            "`compare_modules` must be False with an",
        ),
        (
            lambda: MultiScaleGuidedAttention(3, autoencoder=None, shared_guide=False),
            ArgumentError,
            "`shared_guide` must be True without an autoencoder, got False. Leave out `shared_guide`, or set",
        ),
        (lambda: attention_branch(3, CAM, 3), ArgumentTypeError, "`attention` must be a module"),
        (
            lambda: MultiScaleGatedAttention(CAM(), 3),
            ArgumentTypeError,
            "`gates` must be a list of modules, got a CAM",
        ),
        (lambda: MultiScaleGatedAttention([CAM], 3), ArgumentTypeError, r"`gates\[0\]` must be a module"),
        (
            lambda: PooledAttention(CAM()),
            ArgumentTypeError,
            "meets the MultiScaleAttention protocol, got a CAM",
        ),
        (lambda: MultiScaleFusion(3), ArgumentTypeError, "`in_channels` must be a list of numbers"),
        (lambda: PAM(3, spatial_dims="2"), ArgumentError, "`spatial_dims` must be one of 2, 3, got '2'"),
        (
            lambda: ResNetEncoder("resnet18", in_channels=1, spatial_dims=2),
            ArgumentTypeError,
            "Call `resnet_encoder`",
        ),
        (lambda: resnet_encoder(18), ArgumentError, "`name` must be one of 'resnet18'"),
        (
            lambda: resnet_encoder("resnet18", spatial_dims=1),
            ArgumentError,
            "`spatial_dims` must be one of 2, 3",
        ),
        (
            lambda: resnet_encoder("resnet18", encoder_weights=True),
            ArgumentTypeError,
            "`encoder_weights` must be None",
        ),
        (
            lambda: resnet_encoder("resnet18", encoder_weights="a.pth"),
            MissingFileError,
            "no file lies at a.pth",
        ),
        (
            lambda: TimmEncoder(18),
            ArgumentTypeError,
            "`name` must be the name of a network of timm, got a int",
        ),
        (
            lambda: TimmEncoder("x", encoder_weights=1),
            ArgumentTypeError,
            "`encoder_weights` must be None, 'pretrained'",
        ),
        (lambda: CrossEntropyLoss("abc"), ArgumentTypeError, "`class_weights` must be finite numbers"),
        (lambda: CrossEntropyLoss([1.0, None]), ArgumentTypeError, "`class_weights` must be finite numbers"),
        (
            lambda: CrossEntropyLoss(3.0),
            ArgumentTypeError,
            "`class_weights` must be a list of finite numbers",
        ),
        (lambda: DiceLoss(smooth="1"), ArgumentTypeError, "`smooth` must be a number, got a str"),
        (lambda: DiceCrossEntropyLoss(dice_weight="1"), ArgumentTypeError, "`dice_weight` must be a number"),
        (
            lambda: GuidedAttentionLoss("dice"),
            ArgumentTypeError,
            "`segmentation` must be a function of logits",
        ),
        (
            lambda: GuidedAttentionLoss(guidance_weight=None),
            ArgumentTypeError,
            "`guidance_weight` must be a number",
        ),
        (
            lambda: cross_entropy_loss(MAP, MAP[:, 0].long() * 0, ignore_index=0.5),
            ArgumentTypeError,
            "`ignore_index`",
        ),
        (
            lambda: dice_loss(MAP[:, :0], MAP[:, 0].long()),
            ArgumentError,
            r"`logits` must be of shape \(batch, classes",
        ),
        (
            lambda: guidance_loss(MAP),
            ArgumentTypeError,
            "`codes` must be a list of pairs of tensors, got a Tensor",
        ),
        (
            lambda: guidance_loss([MAP]),
            ArgumentTypeError,
            r"`codes\[0\]` must be a pair of tensors, got a Tensor",
        ),
        (
            lambda: reconstruction_loss([(MAP,) * 3]),
            ArgumentError,
            r"`pairs\[0\]` must be a pair of tensors, got 3",
        ),
        (
            lambda: GuidedAttentionLoss()({"out": MAP}, MAP[:, 0]),
            ArgumentTypeError,
            "got a dict. Pass `model.outputs",
        ),
        (
            lambda: GuidedAttentionLoss(lambda *_: None)(MAP, MAP),
            ArgumentTypeError,
            "a scalar tensor, got a NoneType",
        ),
    ],
)
def test_arguments_of_another_kind_are_named(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_a_record_in_place_of_logits_is_told_what_to_do():
    output = SegmentationOutput(MAP)
    message = r"`logits` must be a tensor .*, got a SegmentationOutput\. Pass `logits\.logits`; `GuidedAttentionLoss`"
    with pytest.raises(ArgumentTypeError, match=message):
        DiceCrossEntropyLoss()(output, torch.zeros(2, 5, 7, dtype=torch.long))


@pytest.mark.parametrize("content", [b"", b"text", 3, [1], {"conv1.weight": 3}, {3: torch.zeros(1)}])
def test_a_file_that_holds_no_weights_is_named(content, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(CheckpointError, match="`encoder_weights` must be a state dict") as caught:
        resnet_encoder("resnet18", encoder_weights=path)
    assert caught.value.file == path
