"""One scan: what the network sees of it, and what comes back on the scan's own grid."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.inference.conftest import AFFINE, AS_IT_IS, ORGANS, SHAPE, Never, Threshold, network, scan
from tests.reference.geometry import Storage
from torch import nn

from guided_attention import MSGA
from guided_attention.case import Case
from guided_attention.errors import ArgumentError, GuidedAttentionError
from guided_attention.inference import PostProcessing, Predictor, keep_largest_component
from guided_attention.labels import LabelSpec
from guided_attention.preparation import CenterCrop, Preparation, Window
from guided_attention.sampling import SliceDataset

ONE = LabelSpec({1: "above"})
LARGEST = PostProcessing(keep_largest=(1, 2))


def canonical(case):
    """Return image and way back of the orientation in which an axial network sees a scan."""
    turn = Storage(case.affine, "LPS")
    return turn.apply(case.image), turn.undo


def softmax_and_entropy(logits):
    """Return label and normalised entropy of one voxel from its logits, in plain floats."""
    largest = max(logits)
    exponentials = [math.exp(value - largest) for value in logits]
    probabilities = [value / sum(exponentials) for value in exponentials]
    entropy = -sum(p * math.log(p) for p in probabilities if p > 0)
    return logits.index(largest), entropy / math.log(len(logits))


# The prediction


@pytest.mark.parametrize("channels", [1, 2])
def test_a_prediction_equals_the_loop_over_slices_and_voxels(channels):
    case, model = scan(channels), network(channels=channels).eval()
    prediction = Predictor(model, AS_IT_IS, ORGANS, batch_size=3).predict(case)
    image, undo = canonical(case)
    labels, uncertainty = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE)
    for z in range(SHAPE[0]):
        with torch.no_grad():
            logits = model(torch.tensor(image[:, z].copy())[None])[0]
        for y in range(SHAPE[1]):
            for x in range(SHAPE[2]):
                labels[z, y, x], uncertainty[z, y, x] = softmax_and_entropy(logits[:, y, x].tolist())
    np.testing.assert_array_equal(prediction.labels, undo(labels))
    np.testing.assert_allclose(prediction.uncertainty, undo(uncertainty), rtol=1e-4, atol=1e-6)
    assert len(np.unique(labels)) == 3


def test_a_network_of_volumes_sees_the_whole_volume():
    case, model = scan(), network(spatial_dims=3).eval()
    prediction = Predictor(model, AS_IT_IS, ORGANS, spatial_dims=3, batch_size=2).predict(case)
    image, undo = canonical(case)
    with torch.no_grad():
        logits = model(torch.tensor(image.copy())[None])
    np.testing.assert_array_equal(prediction.labels, undo(logits[0].argmax(0).numpy()))


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        ([nn.Conv3d(1, 3, 1)], 3),
        ([nn.ConvTranspose3d(1, 3, 1)], 3),
        ([nn.ConvTranspose2d(1, 3, 1)], 2),
        ([nn.Conv2d(1, 3, 1), nn.Conv3d(3, 3, 1)], 2),  # they do not tell
        ([nn.Identity()], 2),
    ],
)
def test_convolutions_tell_the_dimensions_of_a_network_that_does_not(layers, wanted):
    model = nn.Sequential(*layers)
    assert Predictor(model, AS_IT_IS, ORGANS).spatial_dims == wanted
    # Slices one by one inside of a network of volumes: only its author knows.
    assert Predictor(model, AS_IT_IS, ORGANS, spatial_dims=3).spatial_dims == 3


def test_probabilities_are_the_softmax_of_the_logits_on_the_scan():
    case, model = scan(), network().eval()
    image, undo = canonical(case)
    with torch.no_grad():
        wanted = (
            torch.softmax(model(torch.tensor(image.swapaxes(0, 1).copy())), dim=1).transpose(0, 1).numpy()
        )
    got = Predictor(model, AS_IT_IS, ORGANS).probabilities(case)
    np.testing.assert_allclose(got, undo(wanted), atol=1e-6)
    np.testing.assert_array_equal(got.argmax(0), Predictor(model, AS_IT_IS, ORGANS).predict(case).labels)


def test_neighbouring_slices_are_channels_and_edges_repeat():
    seen = []
    model = network(channels=3)
    model.register_forward_hook(lambda _module, arguments, _output: seen.append(arguments[0].clone()))
    case = scan()
    Predictor(model, replace(AS_IT_IS, neighbours=1), ORGANS, batch_size=100).predict(case)
    image, _ = canonical(case)
    for z in range(SHAPE[0]):
        for channel, place in enumerate((max(z - 1, 0), z, min(z + 1, SHAPE[0] - 1))):
            np.testing.assert_array_equal(seen[0][z, channel], image[0, place])


@pytest.mark.parametrize("batch_size", [3, 7, 100])
def test_the_batch_size_changes_nothing(batch_size):
    case, model = scan(), network()
    one, many = (
        Predictor(model, AS_IT_IS, ORGANS, batch_size=size).predict(case) for size in (1, batch_size)
    )
    np.testing.assert_array_equal(many.labels, one.labels)
    np.testing.assert_allclose(many.uncertainty, one.uncertainty, atol=1e-6)


def test_no_batch_is_larger_than_asked_for():
    seen = []
    model = network()
    model.register_forward_hook(lambda _module, arguments, _output: seen.append(len(arguments[0])))
    Predictor(model, AS_IT_IS, ORGANS, batch_size=3).predict(scan())
    assert seen == [3, 3, 1]


def test_id_and_geometry_are_kept():
    prediction = Predictor(network(), AS_IT_IS, ORGANS).predict(scan())
    assert prediction.case_id == "case 7"
    np.testing.assert_array_equal(prediction.affine, AFFINE)
    assert (prediction.labels.dtype, prediction.uncertainty.dtype) == (np.uint8, np.float32)


def test_labels_are_the_values_of_the_organs():
    values = LabelSpec({3: "liver", 300: "spleen"})
    model, case = network(), scan()
    plain = Predictor(model, AS_IT_IS, ORGANS).predict(case).labels
    got = Predictor(model, AS_IT_IS, values).predict(case).labels
    np.testing.assert_array_equal(got, np.array([0, 3, 300])[plain])
    assert got.dtype == np.uint16


def test_the_uncertainty_is_one_where_all_classes_are_equal_and_zero_where_one_is_certain():
    model = nn.Conv2d(1, 3, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    predictor = Predictor(model, AS_IT_IS, ORGANS)
    np.testing.assert_allclose(predictor.predict(scan()).uncertainty, np.ones(SHAPE), atol=1e-6)
    with torch.no_grad():
        model.bias.copy_(torch.tensor([0.0, 0.0, 1000.0]))
    prediction = predictor.predict(scan())
    np.testing.assert_array_equal(prediction.uncertainty, np.zeros(SHAPE))
    np.testing.assert_array_equal(prediction.labels, np.full(SHAPE, 2))


def test_voxels_outside_a_crop_are_background_without_doubt():
    model = nn.Conv2d(1, 3, 1)
    nn.init.zeros_(model.weight)
    with torch.no_grad():
        model.bias.copy_(torch.tensor([0.0, 0.0, 3.0]))
    preparation = Preparation(slice_axis="axial", intensity=None, crop=CenterCrop((3, 5, 7)))
    prediction = Predictor(model, preparation, ORGANS).predict(scan())
    inside = np.zeros(SHAPE, np.bool_)
    inside[2:5, 3:8, 3:10] = True
    np.testing.assert_array_equal(prediction.labels, np.where(inside, 2, 0))
    np.testing.assert_array_equal(prediction.uncertainty == 0, ~inside)


def test_only_the_largest_component_is_kept_if_asked_for():
    case = scan()
    plain, kept = (
        Predictor(Threshold(), AS_IT_IS, ONE, postprocess=PostProcessing(keep_largest=kept)).predict(case)
        for kept in ((), (1,))
    )
    np.testing.assert_array_equal(kept.labels, keep_largest_component(plain.labels))
    assert (kept.labels != plain.labels).any()


@pytest.mark.parametrize("fails", [False, True])
def test_every_module_gets_its_own_mode_back(fails):
    model = network().train()
    model[1].eval()
    predictor = Predictor(model, AS_IT_IS, ORGANS)
    if fails:
        model[4].register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ArgumentError, match="got ZeroDivisionError from it"):
            predictor.predict(scan())
    else:
        predictor.predict(scan())
    assert [module.training for module in model] == [True, False, True, True, True]
    assert model.training


def test_training_statistics_and_gradients_are_untouched():
    model = network().train()
    before = model[1].running_mean.clone()
    Predictor(model, AS_IT_IS, ORGANS).predict(scan())
    assert torch.equal(model[1].running_mean, before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()


def test_bf16_is_close_to_fp32_and_computed_in_bfloat16():
    seen = []
    model = network()
    model.register_forward_hook(lambda *arguments: seen.append(arguments[2].dtype))
    exact, rough = (
        Predictor(model, AS_IT_IS, ORGANS, precision=name).predict(scan()) for name in ("fp32", "bf16")
    )
    assert seen == [torch.float32, torch.bfloat16]
    np.testing.assert_allclose(rough.uncertainty, exact.uncertainty, atol=0.05)


def test_networks_of_volumes_are_computed_in_single_precision_on_a_cpu():
    model = torch.nn.Conv3d(1, ORGANS.num_classes, 3, padding=1)
    exact, other = (
        Predictor(model, AS_IT_IS, ORGANS, spatial_dims=3, precision=name).predict(scan())
        for name in ("fp32", "bf16")
    )
    assert (other.uncertainty == exact.uncertainty).all()


def test_a_compiled_network_predicts_as_the_network_itself_does():
    model, case = network().train(), scan()
    model[1].eval()
    compiled = torch.compile(model, backend="eager")
    got, wanted = (Predictor(one, AS_IT_IS, ORGANS, batch_size=3).predict(case) for one in (compiled, model))
    np.testing.assert_array_equal(got.labels, wanted.labels)
    np.testing.assert_array_equal(got.uncertainty, wanted.uncertainty)
    assert [module.training for module in model] == [True, False, True, True, True]


# What nobody can forget


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LIA", "PSR", "RPS", "ASL"])
def test_the_storage_order_of_a_scan_changes_no_voxel(orientation):
    preparation = Preparation(spacing_mm=(None, 1.1, 1.7), min_size=(17, 19)).fit(
        [scan(seed=1), scan(seed=2)]
    )
    predictor = Predictor(network(), preparation, ORGANS)
    case = scan()
    turn = Storage(case.affine, orientation)
    stored = Case("case 7", turn.apply(case.image), None, turn.affine(case.affine, SHAPE))
    wanted, got = predictor.predict(case), predictor.predict(stored)
    np.testing.assert_array_equal(turn.undo(got.labels), wanted.labels)
    np.testing.assert_array_equal(turn.undo(got.uncertainty), wanted.uncertainty)
    np.testing.assert_array_equal(got.affine, stored.affine)
    assert len(np.unique(wanted.labels)) > 1


def test_named_channels_in_another_order_give_the_same_prediction():
    case = replace(scan(2), channel_names=("T1", "T2"))
    predictor = Predictor(network(channels=2), Preparation(slice_axis="axial").fit([case]), ORGANS)
    swapped = replace(case, image=case.image[::-1], channel_names=("T2", "T1"))
    np.testing.assert_array_equal(predictor.predict(swapped).labels, predictor.predict(case).labels)
    with pytest.raises(ValueError, match="channels of case 'case 7'"):
        predictor.predict(replace(case, channel_names=("T1", "FLAIR")))


# Errors


def test_other_channels_than_the_network_wants_are_named():
    message = r"`image of case 'case 7'` must be of 1 channel, as the network, got 2\. Read the channels"
    with pytest.raises(ValueError, match=message):
        Predictor(nn.Conv2d(1, 3, 1), AS_IT_IS, ORGANS).predict(scan(channels=2))


def test_the_channels_of_a_compiled_network_are_known_too():
    compiled = torch.compile(nn.Conv2d(1, 3, 1), backend="eager")
    with pytest.raises(ValueError, match=r"must be of 1 channel, as the network, got 2\."):
        Predictor(compiled, AS_IT_IS, ORGANS).predict(scan(channels=2))


def test_what_a_network_trips_over_names_the_images_and_the_cure():
    halves = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.Upsample(scale_factor=2))

    class Skips(nn.Module):
        def forward(self, x):
            return halves(x) + x

    message = r"`model` must take images of shape \(7, 1, 11, 13\), .* set `multiple` in the Preparation"
    with pytest.raises(ValueError, match=message):
        Predictor(Skips(), AS_IT_IS, ORGANS).predict(scan())
    padded = replace(AS_IT_IS, multiple=(2, 2))
    assert Predictor(Skips(), padded, ORGANS).predict(scan()).labels.shape == SHAPE


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.Conv2d(1, 3, 3),
            r"logits of shape \(batch, classes, \*size\), \(7, 3, 11, 13\), got \(7, 3, 9, 11\)",
        ),
        (nn.Conv2d(1, 4, 1), r"\(7, 3, 11, 13\), got \(7, 4, 11, 13\)"),
        (nn.Conv2d(1, 1, 1), r"\(7, 3, 11, 13\), got \(7, 1, 11, 13\)"),
    ],
)
def test_logits_of_another_form_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        Predictor(model, AS_IT_IS, ORGANS).predict(scan())


def test_logits_that_are_no_numbers_are_refused():
    model = nn.Conv2d(1, 3, 1)
    nn.init.constant_(model.bias, math.nan)
    with pytest.raises(ValueError, match=r"`model\(images\)` must be finite, got NaN"):
        Predictor(model, AS_IT_IS, ORGANS).predict(scan())


@pytest.mark.parametrize("given", [[1], {"out": 1}, None])
def test_a_network_that_returns_no_tensor_is_refused(given):
    class Odd(nn.Module):
        def forward(self, _):
            return given

    with pytest.raises(TypeError, match=r"`model\(images\)` must be a tensor of logits, got a"):
        Predictor(Odd(), AS_IT_IS, ORGANS).predict(scan())


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "msga"}, "`model` must be a torch.nn.Module"),
        ({"preparation": None}, "`preparation` must be a Preparation"),
        ({"preparation": Preparation()}, "`preparation` must be fitted"),
        ({"labels": {1: "liver"}}, "`labels` must be a LabelSpec"),
        ({"batch_size": 0}, "`batch_size` must be 1 or above, got 0"),
        ({"batch_size": 2.0}, "`batch_size` must be a whole number"),
        ({"precision": "fp16"}, "`precision` must be one of 'fp32', 'bf16'"),
        ({"device": "gpu"}, "`device` must be a device of this machine, got 'gpu'"),
        ({"device": "cuda:77"}, "`device` must be a device of this machine, got 'cuda:77'"),
        ({"device": 3}, '`device` must be a torch device, "auto" or None'),
        ({"spatial_dims": 4}, "`spatial_dims` must be one of 2, 3"),
        ({"spatial_dims": 3, "preparation": Preparation(slice_axis="axial", neighbours=1)}, "neighbours"),
    ],
)
def test_what_cannot_work_is_refused_before_any_scan(changes, message):
    given = {"model": Never(), "preparation": AS_IT_IS, "labels": ORGANS} | changes
    with pytest.raises(GuidedAttentionError, match=message):
        Predictor(given.pop("model"), given.pop("preparation"), given.pop("labels"), **given)


def test_a_network_of_other_classes_or_channels_is_refused():
    model = MSGA(in_channels=1, num_classes=5, encoder="resnet18", channels=4, steps=1)
    with pytest.raises(ValueError, match="`labels` must be of 5 classes, as the network, got 3"):
        Predictor(model, AS_IT_IS, ORGANS)
    two = Preparation(slice_axis="axial").fit([scan(2)])
    organs = LabelSpec({value: f"organ {value}" for value in range(1, 5)})
    with pytest.raises(ValueError, match="`preparation` must be one of 1 channel, as the network, got 2"):
        Predictor(model, two, organs)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    "given", [None, "scan.nii.gz", np.zeros((1, 3, 5, 7)), torch.zeros(1, 3, 5, 7), [scan()]]
)
def test_what_is_no_case_is_refused(given):
    predictor = Predictor(Never(), AS_IT_IS, ORGANS)
    for call in (predictor, predictor.predict, predictor.probabilities):
        with pytest.raises(TypeError, match="`case` must be a Case"):
            call(given)


def test_a_predictor_of_another_network_shares_all_else():
    case, predictor = scan(), Predictor(network(), AS_IT_IS, ORGANS, batch_size=3, postprocess=LARGEST)
    other = network()
    nn.init.normal_(other[0].weight)
    changed = predictor.with_model(other)
    np.testing.assert_array_equal(
        changed.predict(case).labels,
        Predictor(other, AS_IT_IS, ORGANS, postprocess=LARGEST).predict(case).labels,
    )
    assert (changed.batch_size, changed.postprocess, changed.preparation) == (3, LARGEST, AS_IT_IS)


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("model", "predictor.with_model(model)."),
        ("members", "predictor.with_model(model)."),
        ("device", "dataclasses.replace(predictor, device=device)."),
    ],
)
def test_networks_and_device_cannot_be_set_later(name, cure):
    predictor, values = Predictor(network(), AS_IT_IS, ORGANS), {"device": "cpu"}
    before = getattr(predictor, name)
    with pytest.raises(ArgumentError) as caught:
        setattr(predictor, name, values.get(name, network()))
    assert str(caught.value) == (
        f"`{name}` must be what the predictor was made with, got another {name}. Make another predictor: {cure}"
    )
    assert getattr(predictor, name) is before


def test_what_is_set_later_is_used():
    case, predictor = scan(), Predictor(network(), AS_IT_IS, ORGANS)
    changes = {"patch_size": (5, 7), "overlap": 0.25, "mirror_axes": ("width",), "batch_size": 2}
    for name, value in (changes | {"postprocess": LARGEST}).items():
        setattr(predictor, name, value)
    wanted = Predictor(network(), AS_IT_IS, ORGANS, **changes, postprocess=LARGEST).predict(case)
    np.testing.assert_array_equal(predictor.predict(case).labels, wanted.labels)
    np.testing.assert_array_equal(predictor.predict(case).uncertainty, wanted.uncertainty)


def test_a_fitted_window_makes_the_same_prediction_as_the_windowed_scan_seen_as_it_is():
    case = scan()
    windowed = replace(case, image=(case.image.clip(-1, 2) + 1) / 3)
    model = network()
    preparation = replace(AS_IT_IS, intensity=Window(-1, 2))
    got, wanted = (
        Predictor(model, one, ORGANS).predict(two) for one, two in ((preparation, case), (AS_IT_IS, windowed))
    )
    np.testing.assert_allclose(got.uncertainty, wanted.uncertainty, atol=1e-5)


class Wrapped(nn.Module):
    """A 3-D network that knows itself."""

    spatial_dims, in_channels, num_classes = 3, 1, 3

    def __init__(self):
        super().__init__()
        self.inner = network(3)

    def forward(self, x):
        return self.inner(x)


def test_a_network_in_data_parallel_is_known_as_the_network_itself():
    inner, case = Wrapped(), scan()
    wrapped = Predictor(nn.DataParallel(inner), AS_IT_IS, ORGANS, device="cpu")
    assert wrapped.spatial_dims == 3
    wanted = Predictor(inner, AS_IT_IS, ORGANS, device="cpu").predict(case)
    np.testing.assert_array_equal(wrapped.predict(case).labels, wanted.labels)
    with pytest.raises(ValueError, match="`labels` must be of 3 classes, as the network, got 2"):
        Predictor(nn.DataParallel(inner), AS_IT_IS, ONE, device="cpu")
    with pytest.raises(ValueError, match="of 1 channel, as the network, got 2"):
        wrapped.predict(scan(2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16])
def test_weights_of_another_number_type_are_told_what_to_do(dtype):
    predictor = Predictor(network().to(dtype), AS_IT_IS, ORGANS)
    with pytest.raises(ValueError, match=r"call model\.float\(\) first") as caught:
        predictor.predict(scan())
    assert "multiple" not in str(caught.value)


@pytest.mark.usefixtures("without_shape_checks")
def test_a_network_without_weights_and_logits_without_fractions_are_refused():
    with pytest.raises(ValueError, match="`model` must be a network with weights in memory"):
        Predictor(network().to("meta"), AS_IT_IS, ORGANS)
    with pytest.raises(ValueError, match="`device` must be a device of this machine, got 'meta'"):
        Predictor(network(), AS_IT_IS, ORGANS, device="meta")
    for dtype in (torch.int64, torch.complex64):
        whole = Calls(lambda x, kind=dtype: torch.zeros((len(x), 3, *x.shape[2:]), dtype=kind))
        with pytest.raises(ValueError, match=r"`model\(images\)` must be floating-point logits"):
            Predictor(whole, AS_IT_IS, ORGANS).predict(scan())
    with pytest.raises(TypeError, match="`postprocess` must be a PostProcessing, got a str"):
        Predictor(network(), AS_IT_IS, ORGANS, postprocess="yes")


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_named_channels_need_a_preparation_that_knows_their_order():
    case = replace(scan(2), channel_names=("T1", "T2"))
    with pytest.raises(ValueError, match="fitted for channels with names, got the names T1, T2"):
        Predictor(network(channels=2), AS_IT_IS, ORGANS).predict(case)
    labelled = replace(case, labels=np.ones(SHAPE, np.uint8))
    with pytest.raises(ValueError, match="fitted for channels with names, got the names T1, T2"):
        SliceDataset([labelled], AS_IT_IS, ORGANS)
