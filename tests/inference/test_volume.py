import math

import numpy as np
import pytest
import torch
from tests.real_data import real_data
from torch import nn

from guided_attention.case import Case
from guided_attention.data import read_nifti_case
from guided_attention.evaluation import evaluate_case, mean_dice
from guided_attention.inference import (
    evaluate_model,
    evaluate_prediction,
    keep_largest_component,
    predict_case,
    save_prediction,
)
from guided_attention.outputs import Prediction
from guided_attention.preparation import crop_or_pad, resample_in_plane
from guided_attention.sampling import SliceDataset

SHAPE = (7, 11, 13)
SPACING_MM = (5.5, 1.5, 1.25)
AFFINE = np.array([[-1.2, 0.1, 0.3, 17.0], [0.2, 1.4, -0.5, -3.0], [0.0, 0.4, 5.4, 31.0], [0, 0, 0, 1.0]])


def _case(channels=1, labels=None, case_id="case 7"):
    image = np.random.default_rng(3).normal(size=(channels, *SHAPE)).astype(np.float32)
    return Case(case_id, image, labels, AFFINE)


def _network(spatial_dims=2, channels=1, classes=3):
    torch.manual_seed(5)
    conv, norm = (nn.Conv2d, nn.BatchNorm2d) if spatial_dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
    layers = [conv(channels, 5, 3, padding=1), norm(5), nn.ReLU(), nn.Dropout(0.5), conv(5, classes, 1)]
    nn.init.normal_(layers[-1].weight)
    nn.init.zeros_(layers[-1].bias)
    return nn.Sequential(*layers)


class Recorder(nn.Module):
    """Keeps what it was shown."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def forward(self, x):
        self.shown.append(x.clone())
        return torch.cat([x, -x], dim=1)


def _softmax_and_entropy(logits):
    """Give label and normalised entropy of one voxel from its logits, in plain floats."""
    largest = max(logits)
    exponentials = [math.exp(value - largest) for value in logits]
    probabilities = [value / sum(exponentials) for value in exponentials]
    entropy = -sum(p * math.log(p) for p in probabilities if p > 0)
    return logits.index(largest), entropy / math.log(len(logits))


# The prediction


@pytest.mark.parametrize("channels", [1, 2])
def test_a_prediction_equals_the_loop_over_slices_and_voxels(channels):
    case, model = _case(channels), _network(channels=channels).eval()
    prediction = predict_case(model, case, batch_size=3)
    labels, uncertainty = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE)
    for z in range(SHAPE[0]):
        with torch.no_grad():
            logits = model(torch.tensor(case.image[:, z])[None])[0]
        for y in range(SHAPE[1]):
            for x in range(SHAPE[2]):
                labels[z, y, x], uncertainty[z, y, x] = _softmax_and_entropy(logits[:, y, x].tolist())
    np.testing.assert_array_equal(prediction.labels, labels)
    np.testing.assert_allclose(prediction.uncertainty, uncertainty, rtol=1e-4, atol=1e-6)
    assert len(np.unique(labels)) == 3


def test_a_network_of_volumes_sees_the_whole_volume():
    case, model = _case(), _network(spatial_dims=3).eval()
    prediction = predict_case(model, case, spatial_dims=3, batch_size=2)
    with torch.no_grad():
        logits = model(torch.tensor(case.image)[None])
    np.testing.assert_array_equal(prediction.labels, logits[0].argmax(0).numpy())
    assert prediction.uncertainty.shape == SHAPE


@pytest.mark.parametrize("batch_size", [3, 7, 100])
def test_the_batch_size_changes_nothing(batch_size):
    case, model = _case(), _network()
    one, many = (predict_case(model, case, batch_size=size) for size in (1, batch_size))
    np.testing.assert_array_equal(many.labels, one.labels)
    np.testing.assert_allclose(many.uncertainty, one.uncertainty, atol=1e-6)


def test_no_batch_is_larger_than_asked_for():
    seen = []
    model = _network()
    model.register_forward_hook(lambda _module, arguments, _output: seen.append(len(arguments[0])))
    predict_case(model, _case(), batch_size=3)
    assert seen == [3, 3, 1]


def test_id_and_geometry_are_kept():
    prediction = predict_case(_network(), _case())
    assert (prediction.case_id, prediction.spacing_mm) == ("case 7", SPACING_MM)
    np.testing.assert_array_equal(prediction.affine, AFFINE)
    assert (prediction.labels.dtype, prediction.uncertainty.dtype) == (np.uint8, np.float32)


def test_the_uncertainty_is_one_for_a_coin_toss_and_zero_for_certainty():
    model = nn.Conv2d(1, 4, 1)
    nn.init.zeros_(model.weight)
    with torch.no_grad():
        model.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0]))
    np.testing.assert_allclose(predict_case(model, _case()).uncertainty, np.ones(SHAPE), atol=1e-6)
    with torch.no_grad():
        model.bias.copy_(torch.tensor([0.0, 0.0, 1000.0, 0.0]))
    prediction = predict_case(model, _case())
    np.testing.assert_array_equal(prediction.uncertainty, np.zeros(SHAPE))
    np.testing.assert_array_equal(prediction.labels, np.full(SHAPE, 2))


@pytest.mark.parametrize("fails", [False, True])
def test_every_module_gets_its_own_mode_back(fails):
    model = _network().train()
    model[1].eval()
    if fails:
        model[4].register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            predict_case(model, _case())
    else:
        predict_case(model, _case())
    assert [module.training for module in model] == [True, False, True, True, True]
    assert model.training


def test_training_statistics_and_gradients_are_untouched():
    model = _network().train()
    before = model[1].running_mean.clone()
    predict_case(model, _case())
    assert torch.equal(model[1].running_mean, before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_bf16_is_close_to_fp32_and_computed_in_bfloat16():
    seen = []
    model = _network()
    model.register_forward_hook(lambda *arguments: seen.append(arguments[2].dtype))
    exact, rough = (predict_case(model, _case(), precision=precision) for precision in ("fp32", "bf16"))
    assert seen == [torch.float32, torch.bfloat16]
    np.testing.assert_allclose(rough.uncertainty, exact.uncertainty, atol=0.05)


def test_a_network_without_weights_works():
    class Threshold(nn.Module):
        def forward(self, x):
            return torch.cat([-x, x], dim=1)

    case = _case()
    np.testing.assert_array_equal(predict_case(Threshold(), case).labels, case.image[0] > 0)


def test_a_compiled_network_predicts_as_the_network_itself_does():
    model, case = _network().train(), _case()
    model[1].eval()
    compiled = torch.compile(model, backend="eager")
    got, wanted = (predict_case(network, case, batch_size=3) for network in (compiled, model))
    np.testing.assert_array_equal(got.labels, wanted.labels)
    np.testing.assert_array_equal(got.uncertainty, wanted.uncertainty)
    assert [module.training for module in model] == [True, False, True, True, True]
    assert model.training
    assert compiled.training


def test_the_channels_of_a_compiled_network_are_known_too():
    compiled = torch.compile(nn.Conv2d(1, 3, 1), backend="eager")
    with pytest.raises(ValueError, match=r"must be of 1 channels, as the network wants, got 2\."):
        predict_case(compiled, _case(channels=2))


# Errors of the prediction


def test_other_channels_than_the_network_wants_are_named():
    message = (
        r"`image of case 'case 7'` must be of 1 channels, as the network wants, got 2\. Read the case with"
    )
    with pytest.raises(ValueError, match=message):
        predict_case(nn.Conv2d(1, 3, 1), _case(channels=2))


def test_the_channels_of_its_encoder_are_those_the_network_wants():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Conv2d(1, 3, 1)

        def forward(self, x):
            return self.encoder(x)

    with pytest.raises(ValueError, match=r"must be of 1 channels, as the network wants, got 2\."):
        predict_case(Network(), _case(channels=2))
    assert predict_case(Network(), _case()).labels.shape == SHAPE


def test_an_error_of_the_network_passes_through():
    with pytest.raises(RuntimeError, match="channels"):
        predict_case(_network(), _case(channels=2))


def test_logits_of_another_size_are_refused():
    message = r"`model\(image\)` must be of the image's batch and size \(7, 11, 13\), got \(7, 9, 11\)\."
    with pytest.raises(ValueError, match=message):
        predict_case(nn.Conv2d(1, 3, 3), _case())


def test_a_single_class_is_refused():
    with pytest.raises(ValueError, match=r"`model\(image\)` must be of 2 to 256 classes, got 1\."):
        predict_case(nn.Conv2d(1, 1, 1), _case())


def test_logits_that_are_no_numbers_are_refused():
    model = nn.Conv2d(1, 3, 1)
    nn.init.constant_(model.bias, math.nan)
    with pytest.raises(ValueError, match=r"`model\(image\)` must be finite, got NaN\."):
        predict_case(model, _case())


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"`batch_size` must be at least 1, got 0\."):
        predict_case(_network(), _case(), batch_size=0)


# Files


def _prediction(case_id="case 7"):
    rng = np.random.default_rng(11)
    labels = rng.integers(0, 5, size=SHAPE).astype(np.uint8)
    return Prediction(case_id, labels, rng.random(SHAPE, dtype=np.float32), AFFINE)


def test_a_prediction_reads_back_with_its_affine_and_every_voxel_in_place(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    prediction = _prediction()
    path = save_prediction(prediction, tmp_path / "new" / "folder", include_uncertainty=True)
    assert path == tmp_path / "new" / "folder" / "case 7_prediction.nii.gz"
    image = nibabel.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, prediction.labels)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    assert image.get_data_dtype() == np.uint8
    doubt = nibabel.load(path.with_name("case 7_uncertainty.nii.gz"))
    np.testing.assert_array_equal(np.asarray(doubt.dataobj).T, prediction.uncertainty)


def test_the_uncertainty_is_left_out_unless_asked_for(tmp_path):
    save_prediction(_prediction(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["case 7_prediction.nii.gz"]


@pytest.mark.parametrize("held", ["case 7_prediction.nii.gz", "case 7_uncertainty.nii.gz"])
def test_an_earlier_file_is_refused_and_nothing_written(tmp_path, held):
    (tmp_path / held).write_text("earlier")
    with pytest.raises(
        FileExistsError, match=rf"earlier predictions of this case, got .*{held}\. .*overwrite=True"
    ):
        save_prediction(_prediction(), tmp_path, include_uncertainty=True)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(held, "earlier")]


def test_an_earlier_file_is_replaced_when_asked_to(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    (tmp_path / "case 7_prediction.nii.gz").write_text("earlier")
    path = save_prediction(_prediction(), tmp_path, overwrite=True)
    np.testing.assert_array_equal(np.asarray(nibabel.load(path).dataobj).T, _prediction().labels)


@pytest.mark.parametrize("bad", ["", "a/b", "..\\b", "a:b"])
def test_an_id_that_is_no_file_name_is_refused(tmp_path, bad):
    with pytest.raises(ValueError, match=r"`prediction\.case_id` must be fit for a file name, got "):
        save_prediction(_prediction(bad), tmp_path)
    assert not list(tmp_path.iterdir())


# Another pixel size


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_network_is_shown_the_pixels_it_knows_and_its_logits_are_brought_back(spatial_dims):
    case, model = _case(), _network(spatial_dims).eval()
    prediction = predict_case(model, case, spatial_dims=spatial_dims, in_plane_mm=2.5)
    shown = (round(11 * 1.5 / 2.5), round(13 * 1.25 / 2.5))
    image = torch.from_numpy(case.image).swapaxes(0, 1)
    small = torch.nn.functional.interpolate(image, shown, mode="bilinear")
    with torch.no_grad():
        batch = small if spatial_dims == 2 else small.swapaxes(0, 1)[None]
        logits = model(batch) if spatial_dims == 2 else model(batch)[0].swapaxes(0, 1)
    large = torch.nn.functional.interpolate(logits, SHAPE[1:], mode="bilinear")
    np.testing.assert_array_equal(prediction.labels, large.argmax(1).numpy())
    assert prediction.spacing_mm == case.spacing_mm
    np.testing.assert_array_equal(prediction.affine, case.affine)


def test_the_shown_pixels_are_as_many_as_resampling_gives():
    """What the network is shown in prediction is what it was trained on."""
    case, model = _case(), Recorder()
    for in_plane_mm in (0.7, 1.0, 1.9, 2.5, 40.0):
        predict_case(model, case, in_plane_mm=in_plane_mm)
        assert model.shown[-1].shape[2:] == resample_in_plane(case, in_plane_mm).image.shape[2:]


def test_its_own_pixel_size_changes_nothing():
    case = Case("7", _case().image, None, AFFINE)
    model = _network()
    own, plain = predict_case(model, case, in_plane_mm=1.5), predict_case(model, case)
    np.testing.assert_array_equal(own.uncertainty, plain.uncertainty)


def test_a_pixel_size_of_zero_is_refused():
    with pytest.raises(ValueError, match="`in_plane_mm` must be above 0, got 0"):
        predict_case(_network(), _case(), in_plane_mm=0.0)


# A least size


@pytest.mark.parametrize("size", [(17, 19), (12, 23), (13, 5), (3, 16)])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_small_slices_are_padded_and_their_logits_cropped(spatial_dims, size):
    case, model = _case(channels=2), _network(spatial_dims, channels=2)
    case.image[1] += 7.0  # each channel has a least value of its own
    frame = (max(size[0], SHAPE[1]), max(size[1], SHAPE[2]))
    framed = predict_case(model, crop_or_pad(case, frame), spatial_dims=spatial_dims)
    prediction = predict_case(model, case, spatial_dims=spatial_dims, min_size=size)
    top, left = (frame[0] - SHAPE[1]) // 2, (frame[1] - SHAPE[2]) // 2
    inner = (slice(None), slice(top, top + SHAPE[1]), slice(left, left + SHAPE[2]))
    np.testing.assert_array_equal(prediction.labels, framed.labels[inner])
    np.testing.assert_allclose(prediction.uncertainty, framed.uncertainty[inner], atol=1e-6)
    np.testing.assert_array_equal(prediction.affine, case.affine)
    assert prediction.spacing_mm == case.spacing_mm


def test_the_network_is_shown_what_a_dataset_of_that_size_shows_it():
    case, model = _case(labels=np.zeros(SHAPE, np.uint8)), Recorder()
    predict_case(model, case, batch_size=3, min_size=(17, 20))
    slices = SliceDataset([case], num_classes=2, size=(17, 20))
    assert torch.equal(torch.cat(model.shown), torch.stack([image for image, _ in slices]))


def test_the_least_size_counts_the_pixels_that_the_network_sees():
    case, model = _case(), Recorder()
    predict_case(model, case, batch_size=7, in_plane_mm=3.0, min_size=(9, 4))
    image = torch.from_numpy(case.image).swapaxes(0, 1)
    small = torch.nn.functional.interpolate(image, (6, 5), mode="bilinear")
    (shown,) = model.shown
    assert shown.shape == (7, 1, 9, 5)
    assert torch.equal(shown[:, :, 1:7], small)
    assert bool((shown[:, :, [0, 7, 8]] == case.image.min()).all())


def test_a_least_size_that_is_reached_changes_nothing():
    case, model = _case(), _network()
    padded, plain = predict_case(model, case, min_size=SHAPE[1:]), predict_case(model, case)
    np.testing.assert_array_equal(padded.uncertainty, plain.uncertainty)


def test_an_evaluation_pads_as_the_prediction_does():
    model, case, names = _network(), _case(labels=_labels(2)), {1: "liver", 2: "spleen"}
    shown = {"in_plane_mm": 1.9, "min_size": (23, 29)}
    drawn = predict_case(model, case, **shown).labels
    wanted = evaluate_case(drawn, case.labels, labels=names, spacing_mm=SPACING_MM, case_id=case.case_id)
    assert evaluate_model(model, [case], names, **shown) == wanted
    assert evaluate_model(model, [case], names, in_plane_mm=1.9) != wanted


@pytest.mark.parametrize(
    ("size", "message"),
    [((0, 5), r"`min_size` must be above 0"), ((5, 7, 9), r"`min_size` must be a height and a width")],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_a_least_size_out_of_range_is_refused(size, message):
    with pytest.raises(ValueError, match=message):
        predict_case(_network(), _case(), min_size=size)


# Evaluation


def _labels(seed=0):
    return np.random.default_rng(seed).integers(0, 3, size=SHAPE).astype(np.uint8)


@pytest.mark.parametrize("keep_largest", [False, True])
def test_an_evaluation_is_the_prediction_and_the_scores_of_each_case(keep_largest):
    model, names = _network(), {1: "liver", 2: "spleen"}
    cases = [_case(labels=_labels(seed), case_id=f"case {seed}") for seed in (2, 1)]
    wanted = []
    for case in cases:
        drawn = predict_case(model, case).labels
        drawn = keep_largest_component(drawn) if keep_largest else drawn
        wanted += evaluate_case(drawn, case.labels, labels=names, spacing_mm=SPACING_MM, case_id=case.case_id)
    got = evaluate_model(model, iter(cases), names, keep_largest=keep_largest, batch_size=2)
    assert got == wanted
    assert [score.case_id for score in got] == ["case 2"] * 2 + ["case 1"] * 2


def test_without_distances_the_dice_is_the_same():
    model, names, cases = _network(), {1: "liver", 2: "spleen"}, [_case(labels=_labels())]
    with_distances, without = (evaluate_model(model, cases, names, distances=flag) for flag in (True, False))
    assert mean_dice(with_distances) == mean_dice(without)
    assert [score.dice for score in with_distances] == [score.dice for score in without]
    assert all(math.isfinite(score.assd_mm) for score in with_distances)
    assert all(math.isnan(score.assd_mm) for score in without)


class _Never(nn.Module):
    def forward(self, _):
        raise AssertionError("the check comes before the prediction")


def test_a_case_without_labels_is_named():
    message = r"`case` must be a case with labels, got 'case 7' without any\. Leave it out\."
    with pytest.raises(ValueError, match=message):
        evaluate_model(_Never(), [_case()], {1: "liver"})
    with pytest.raises(ValueError, match=message):
        evaluate_prediction(predict_case(_network(), _case()), _case(), {1: "liver"})


def test_the_scores_of_a_prediction_are_those_of_its_case():
    case, names = _case(labels=_labels()), {1: "liver", 2: "spleen"}
    prediction = predict_case(_network(), case)
    wanted = evaluate_case(
        prediction.labels, case.labels, labels=names, spacing_mm=SPACING_MM, case_id=case.case_id
    )
    assert evaluate_prediction(prediction, case, names) == wanted


def test_a_prediction_of_another_case_is_refused():
    prediction = predict_case(_network(), _case(case_id="case 8"))
    with pytest.raises(ValueError, match=r"`prediction` must be that of case 'case 7', got case 'case 8'\."):
        evaluate_prediction(prediction, _case(labels=_labels()), {1: "liver"})


def test_real_volumes_keep_their_geometry(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    folder = real_data("abdomen-mr-ct")
    path = next(folder.glob("mr_image*"))
    case = read_nifti_case(path)

    class Threshold(nn.Module):
        def forward(self, x):
            return torch.cat([100 - x, x - 100], dim=1)

    written = nibabel.load(save_prediction(predict_case(Threshold(), case), tmp_path))
    source = nibabel.load(path)
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(source.dataobj) > 100)
