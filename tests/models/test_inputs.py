"""Inputs that do not fit into a network meet our error, and tensor subclasses pass; builders check what they get."""

import inspect

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from tests.modules import drawn, opened
from torch import nn

from guided_attention import MSGA, MultiScaleFusion, SegmentationModel, models
from guided_attention.attention import MultiScaleGuidedAttention
from guided_attention.encoders import resnet_encoder
from guided_attention.errors import ArgumentError, ArgumentTypeError, MissingFileError
from guided_attention.losses import GuidedAttentionLoss
from guided_attention.models import DualAttentionNetwork, danet, export_original, fuse, load_original

pytestmark = pytest.mark.usefixtures("narrow_resnets")

BUILDERS = [
    "MSGA",
    "msga_lite",
    "daf",
    "ms_pam",
    "ms_cam",
    "ms_danet",
    "ms_dual",
    "ms_dist",
    "ms_dual_guided",
    "danet",
]


def small(name, **arguments):
    channels = {} if name == "danet" else {"channels": 4}
    return getattr(models, name)(**({"encoder": "resnet18", **channels} | arguments))


_WRONG = {
    "no batch axis": (
        lambda: drawn(1, 37, 53),
        r"of shape \(batch, 1, height, width\), got one of shape \(1, 37, 53\)",
    ),
    "a volume": (lambda: drawn(1, 1, 3, 37, 53), r"height, width\), got one of shape \(1, 1, 3, 37, 53\)"),
    "two channels": (
        lambda: drawn(1, 2, 37, 53),
        r"of shape \(batch, 1, height, width\), got one of shape \(1, 2, 37, 53",
    ),
    "channels last": (lambda: drawn(1, 37, 53, 1), r"Move the channels to the second axis"),
    "whole numbers": (
        lambda: torch.zeros(1, 1, 37, 53, dtype=torch.int16),
        r"of a floating type, got torch\.int16",
    ),
    "truth values": (
        lambda: torch.zeros(1, 1, 37, 53, dtype=torch.bool),
        r"of a floating type, got torch\.bool",
    ),
    "complex": (
        lambda: torch.zeros(1, 1, 37, 53, dtype=torch.complex64),
        r"of a floating type, got torch\.complex64",
    ),
    "double": (
        lambda: drawn(1, 1, 37, 53).double(),
        r"of the type of the weights, torch\.float32, got torch\.float64",
    ),
    "half": (
        lambda: drawn(1, 1, 37, 53).half(),
        r"of the type of the weights, torch\.float32, got torch\.float16",
    ),
    "another device": (lambda: drawn(1, 1, 37, 53).to("meta"), "on the device of the weights, cpu, got meta"),
    "no sample": (
        lambda: drawn(0, 1, 37, 53),
        r"at least one sample and one position, got one of shape \(0, 1, 37",
    ),
    "no position": (lambda: drawn(1, 1, 0, 53), "at least one sample and one position"),
    "sparse": (lambda: drawn(1, 1, 37, 53).to_sparse(), r"a dense tensor, got torch\.sparse_coo"),
    "numpy": (lambda: drawn(1, 1, 37, 53).numpy(), r"got a ndarray\. Pass `torch\.from_numpy"),
    "a list": (lambda: [[0.0]], "got a list"),
    "nothing": (lambda: None, "got a NoneType"),
}


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("wrong", _WRONG)
@pytest.mark.parametrize("name", ["MSGA", "danet"])
def test_an_input_that_does_not_fit_is_named(name, wrong):
    make, message = _WRONG[wrong]
    model = small(name)
    for run in (model, model.eval(), model.outputs):
        with pytest.raises((ArgumentError, ArgumentTypeError), match=f"`x` must be .*{message}"):
            run(make())


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("name", ["MSGA", "danet"])
def test_weights_of_half_precision_name_both_types(name):
    model = small(name).half()
    with pytest.raises(
        ArgumentError, match=r"of the type of the weights, torch\.float16, got torch\.float32\. Pass"
    ):
        model(drawn(1, 1, 37, 53))


@pytest.mark.usefixtures("without_shape_checks")
def test_a_slice_does_not_fit_into_a_network_of_volumes():
    model = small("MSGA", spatial_dims=3)
    with pytest.raises(
        ArgumentError, match=r"\(batch, 1, depth, height, width\), got one of shape \(1, 1, 37, 53\)"
    ):
        model(drawn(1, 1, 37, 53))


@pytest.mark.parametrize("name", ["MSGA", "danet"])
def test_autocast_converts_types_itself(name):
    model, x = small(name).eval(), drawn(1, 1, 37, 53)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.isfinite(model(x.bfloat16())).all()
        assert torch.isfinite(model(x)).all()


class _Unchecked(nn.Module):
    """An encoder of a user's own, which checks nothing and does not tell its channels."""

    out_channels, strides = (3,), (2,)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, stride=2, padding=1)

    def forward(self, x):
        return [self.conv(x)]


def with_own_encoder(kind):
    if kind == "danet":
        return DualAttentionNetwork(_Unchecked(), 4, num_classes=2)
    fusion, attention = MultiScaleFusion((3,), channels=4), MultiScaleGuidedAttention(4, num_scales=1)
    return SegmentationModel(_Unchecked(), fusion, attention, num_classes=2)


@pytest.mark.parametrize("kind", ["wired by hand", "danet"])
def test_an_encoder_that_does_not_tell_its_channels_is_not_asked_for_them(kind):
    model = with_own_encoder(kind)
    assert model.in_channels is None
    assert model(drawn(1, 2, 11, 13)).shape == (1, 2, 11, 13)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    "wrong", ["no batch axis", "a volume", "whole numbers", "double", "another device", "numpy"]
)
@pytest.mark.parametrize("kind", ["wired by hand", "danet"])
def test_the_network_checks_for_an_encoder_that_does_not(kind, wrong):
    make, message = _WRONG[wrong]
    model = with_own_encoder(kind)
    for run in (model, model.outputs):
        with pytest.raises(
            (ArgumentError, ArgumentTypeError),
            match="`x` must be .*" + message.replace("1, h", "channels, h"),
        ):
            run(make())


# Tensor subclasses


@pytest.mark.parametrize("name", BUILDERS)
def test_tensors_of_monai_give_what_plain_ones_give_in_training_and_evaluation(name):
    model = opened(small(name, num_classes=3))
    plain = torch.cat([drawn(1, 1, 37, 53), drawn(1, 1, 37, 53, seed=2)])
    image = MetaTensor(plain, affine=torch.eye(4))
    image.is_batch = True
    target = torch.randint(3, (2, 37, 53), generator=torch.Generator().manual_seed(0))
    expected = model.eval()(plain)
    assert torch.equal(torch.as_tensor(model(image)), expected)
    gradients = []
    for x in (plain, image):
        torch.manual_seed(0)
        model.train().zero_grad()
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.reset_running_stats()
        GuidedAttentionLoss()(model.outputs(x), target).total.backward()
        gradients.append([torch.as_tensor(parameter.grad).clone() for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


# Builders


@pytest.mark.parametrize("name", BUILDERS)
def test_a_network_knows_its_sizes(name):
    model = small(name, in_channels=2, num_classes=3)
    assert (model.in_channels, model.num_classes, model.spatial_dims) == (2, 3, 2)
    with torch.device("meta"):
        assert small(name, spatial_dims=3).spatial_dims == 3


_ARGUMENTS = [
    ({"in_channels": 0}, "`in_channels` must be above 0, got 0"),
    ({"in_channels": 1.0}, "`in_channels` must be an integer, got 1.0"),
    ({"in_channels": "1"}, "`in_channels` must be an integer, got '1'"),
    ({"num_classes": 1}, "`num_classes` must be at least 2, background included, got 1"),
    ({"num_classes": True}, "`num_classes` must be an integer, got True"),
    ({"num_classes": None}, "`num_classes` must be an integer, got None"),
    ({"encoder": "resnet19"}, "must be one of 'resnet18', .*, got 'resnet19'"),
    ({"encoder": None}, "`encoder` must be the name of a ResNet, or a .*, got a NoneType"),
    ({"encoder": nn.Linear(3, 5)}, "`encoder` must be the name of a ResNet, or a .*, got a Linear"),
    ({"encoder": lambda x: x}, "`encoder` must be the name of a ResNet, or a .*, got a function"),
    (
        {"encoder_weights": 7},
        "`encoder_weights` must be None, 'imagenet' or the path of a state dict, got a int",
    ),
    ({"encoder_weights": "nowhere.pt"}, "no file lies at nowhere.pt"),
    ({"spatial_dims": 4}, "`spatial_dims` must be one of 2, 3, got 4"),
    ({"spatial_dims": "2"}, "`spatial_dims` must be one of 2, 3, got '2'"),
]


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(("arguments", "message"), _ARGUMENTS)
@pytest.mark.parametrize("name", BUILDERS)
def test_an_argument_that_cannot_be_is_named(name, arguments, message):
    with (
        torch.device("meta"),
        pytest.raises((ArgumentError, ArgumentTypeError, MissingFileError), match=message),
    ):
        small(name, **arguments)


_OPTIONS = {
    "channels": [
        (0, "must be above 0, got 0"),
        ("4", "must be an integer, got"),
        (4.0, "must be an integer, got 4.0"),
    ],
    "steps": [(0, "must be above 0, got 0"), (True, "must be an integer, got True")],
    "factor": [(0, "must be above 0, got 0"), (None, "must be an integer, got None")],
    "energy": [
        ("paers", "must be one of 'danet', 'paper', got 'paers'"),
        (1, "must be 'danet' or 'paper', got a int"),
    ],
    "shared_guide": [(1, "must be True or False, got a int")],
    "deeply_supervised": [("no", "must be True or False, got a str")],
}


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("name", BUILDERS)
def test_an_option_that_cannot_be_is_named(name):
    parameters = inspect.signature(getattr(models, name)).parameters
    options = [option for option in _OPTIONS if option in parameters]
    assert options
    for option in options:
        for value, message in _OPTIONS[option]:
            with pytest.raises((ArgumentError, ArgumentTypeError), match=f"`{option}` {message}"):
                small(name, **{option: value})


def test_weights_for_an_encoder_of_ones_own_are_refused():
    with pytest.raises(
        ArgumentError, match="`encoder_weights` must be None where `encoder` is a module, got 'imagenet'"
    ):
        MSGA(encoder=resnet_encoder("resnet18"), channels=4, encoder_weights="imagenet")


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("name", BUILDERS)
def test_an_encoder_of_other_channels_or_dimensions_is_refused(name):
    with torch.device("meta"):
        slices = resnet_encoder("resnet18", in_channels=2)
        message = "`encoder.spatial_dims` must be 3, as `spatial_dims`, got 2. Pass the encoder's own"
        with pytest.raises(ArgumentError, match=message):
            small(name, encoder=slices, in_channels=2, spatial_dims=3)
        message = "`encoder.in_channels` must be 4, as `in_channels`, got 2. Pass the encoder's own number as `in_ch"
        with pytest.raises(ArgumentError, match=message):
            small(name, encoder=slices, in_channels=4)


@pytest.mark.usefixtures("without_shape_checks")
def test_parts_of_other_dimensions_are_refused():
    with torch.device("meta"):
        slices, volumes = (resnet_encoder("resnet18", spatial_dims=dims) for dims in (2, 3))
        fusion = MultiScaleFusion(slices.out_channels, channels=4)
        with pytest.raises(
            ArgumentError, match="`encoder.spatial_dims` must be 2, as that of `fusion`, got 3"
        ):
            SegmentationModel(volumes, fusion, MultiScaleGuidedAttention(4), num_classes=2)
        attention = MultiScaleGuidedAttention(4, spatial_dims=3)
        with pytest.raises(
            ArgumentError, match="`attention.spatial_dims` must be 2, as that of `fusion`, got 3"
        ):
            SegmentationModel(slices, fusion, attention, num_classes=2)
        with pytest.raises(ArgumentError, match="`encoder.spatial_dims` must be 2, as `spatial_dims`, got 3"):
            DualAttentionNetwork(volumes, 4, num_classes=2)


@pytest.mark.usefixtures("without_shape_checks")
def test_whole_numbers_of_numpy_are_numbers():
    model = small("daf", num_classes=np.int64(3), in_channels=np.int32(2))
    assert model(drawn(1, 2, 37, 53)).shape == (1, 3, 37, 53)
    assert {type(value) for value in model.settings.arguments.values()} == {int, str, type(None)}


@pytest.mark.usefixtures("without_shape_checks")
def test_parts_of_wrong_types_are_named():
    encoder = resnet_encoder("resnet18")
    fusion = MultiScaleFusion(encoder.out_channels, channels=4)
    attention = MultiScaleGuidedAttention(4)
    with pytest.raises(
        ArgumentTypeError, match=r"`encoder` must be a torch\.nn\.Module that meets the Encoder protocol"
    ):
        SegmentationModel("resnet18", fusion, attention, num_classes=2)
    with pytest.raises(
        ArgumentTypeError, match="`encoder` must be a module that meets the Encoder protocol, got a Linear"
    ):
        SegmentationModel(nn.Linear(3, 5), fusion, attention, num_classes=2)
    with pytest.raises(ArgumentTypeError, match="`fusion` must be a MultiScaleFusion, got a Identity"):
        SegmentationModel(encoder, nn.Identity(), attention, num_classes=2)
    with pytest.raises(
        ArgumentTypeError, match="`attention` must be a module that meets the MultiScaleAttention"
    ):
        SegmentationModel(encoder, fusion, nn.Identity(), num_classes=2)
    with pytest.raises(ArgumentTypeError, match="`attention` must be a torch.nn.Module that meets"):
        SegmentationModel(encoder, fusion, None, num_classes=2)
    with pytest.raises(ArgumentTypeError, match="`num_classes` must be an integer, got '2'"):
        SegmentationModel(encoder, fusion, attention, num_classes="2")
    with pytest.raises(
        ArgumentTypeError, match="`encoder` must be a module that meets the Encoder protocol, got a Linear"
    ):
        DualAttentionNetwork(nn.Linear(3, 5), 4, num_classes=2)
    with pytest.raises(
        ArgumentTypeError, match=r"`channel_attention` must be a torch\.nn\.Module, such as CAM\(\)"
    ):
        DualAttentionNetwork(encoder, 4, num_classes=2, channel_attention="danet")


@pytest.mark.usefixtures("without_shape_checks")
def test_functions_on_networks_name_what_they_want():
    with pytest.raises(ArgumentTypeError, match=r"`model` must be a torch\.nn\.Module, got a dict"):
        fuse({})
    with pytest.raises(
        ArgumentTypeError, match="`model` must be a SegmentationModel, got a DualAttentionNetwork"
    ):
        export_original(danet(encoder="resnet18"))
    with pytest.raises(ArgumentTypeError, match="`source` must be a path, got a int"):
        load_original(7)
