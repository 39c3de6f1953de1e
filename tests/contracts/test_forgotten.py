"""Every way to forget how scans were prepared: it cannot happen, it changes nothing, or it is said.

The lines are those of users who trained with one preparation and predicted with another.
"""

import importlib
import inspect
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.reference.geometry import Storage
from torch.utils.data import DataLoader

from guided_attention import MSGA, Trainer
from guided_attention.case import Case
from guided_attention.data import CHAOS_MR_LABELS, make_phantom
from guided_attention.errors import CheckpointError, DataError, IntensityWarning, SpacingWarning
from guided_attention.evaluation import Validation, evaluate_prediction
from guided_attention.inference import Predictor
from guided_attention.labels import LabelSpec
from guided_attention.losses import CrossEntropyLoss, GuidedAttentionLoss
from guided_attention.preparation import CohortPercentiles, Preparation, Window, ZScore
from guided_attention.sampling import SliceDataset
from guided_attention.training import TrainerConfig, load_weights, save_checkpoint, seed_everything

pytestmark = pytest.mark.usefixtures("narrow_resnets")

ORIENTATIONS = ("LPS", "RAS", "LIA", "PSR", "RPI", "ASL")
SMALL = {"encoder": "resnet18", "channels": 4, "steps": 1}


def stored(case, orientation, *, degrees=0.0):
    """Return the same anatomy in another storage order, turned about the z axis by a few degrees."""
    turn = Storage(case.affine, orientation)
    affine = turn.affine(case.affine, case.image.shape[1:])
    angle = np.radians(degrees)
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    labels = None if case.labels is None else turn.apply(case.labels)
    return replace(case, image=turn.apply(case.image), labels=labels, affine=rotation @ affine), turn


@pytest.fixture(scope="module")
def cohort():
    return [make_phantom(0, subject=number, size=48) for number in (1, 2, 3)]


@pytest.fixture(scope="module")
def predictor(cohort):
    seed_everything(0)
    preparation = Preparation(slice_axis="axial", spacing_mm=(None, 11.0, 11.0), min_size=(32, 32)).fit(
        cohort
    )
    return Predictor(MSGA(1, 5, **SMALL), preparation, CHAOS_MR_LABELS, device="cpu")


def trained(cohort, preparation):
    """Train for an epoch on a cohort, and return the weights."""
    seed_everything(0)
    model = MSGA(1, 5, **SMALL)
    slices = SliceDataset(cohort, preparation, CHAOS_MR_LABELS, foreground_only=True, slice_step=5)
    predictor = Predictor(model, preparation, CHAOS_MR_LABELS, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained.folder)
        result = Trainer(
            model,
            GuidedAttentionLoss(CrossEntropyLoss()),
            torch.optim.SGD(model.parameters(), lr=0.01),
            train_loader=DataLoader(slices, batch_size=4, shuffle=True),
            validate=Validation(predictor.with_model, cohort[:1], CHAOS_MR_LABELS),
            run_dir=f"run-{len(list(trained.folder.iterdir()))}",
            config=TrainerConfig(max_epochs=1, quiet=True),
            metadata=predictor.metadata,
        ).fit()
        return model.state_dict(), result.best_score


def test_training_on_scans_of_all_orientations_gives_the_weights_of_one(cohort, tmp_path):
    trained.folder = tmp_path
    mixed = [stored(case, name)[0] for case, name in zip(cohort, ("LIA", "RAS", "PSR"), strict=True)]
    settings = Preparation(spacing_mm=(None, 11.0, 11.0), slice_axis="axial", min_size=(48, 48))
    preparations = [settings.fit(cases) for cases in (cohort, mixed)]
    one, other = (trained(cases, p) for cases, p in zip((cohort, mixed), preparations, strict=True))
    assert one[1] == other[1]
    for name, value in one[0].items():
        assert torch.equal(value, other[0][name]), name
    settings = [p.to_dict() for p in preparations]
    orientations = [values["fingerprint"].pop("orientations") for values in settings]
    assert settings[0] == settings[1]
    assert orientations == [{"LPS": 3}, {"LIA": 1, "PSR": 1, "RAS": 1}]


@pytest.mark.parametrize(
    ("orientation", "degrees"), [*((name, 0.0) for name in ORIENTATIONS), ("RAS", 7.0), ("LIA", 180.0)]
)
def test_the_storage_order_changes_no_voxel_of_a_prediction_and_no_score(
    predictor, cohort, orientation, degrees
):
    case = cohort[0]
    other, turn = stored(case, orientation, degrees=degrees)
    if degrees == 180.0:  # turned so far, the patient's left and right, front and back are elsewhere
        case = replace(case, affine=np.diag([-1.0, -1.0, 1.0, 1.0]) @ case.affine)
    wanted, got = predictor.predict(case), predictor.predict(other)
    np.testing.assert_array_equal(turn.undo(got.labels), wanted.labels)
    np.testing.assert_array_equal(turn.undo(got.uncertainty), wanted.uncertainty)
    np.testing.assert_array_equal(got.affine, other.affine)
    scores, others = (
        evaluate_prediction(prediction, one, CHAOS_MR_LABELS, definition=None)
        for prediction, one in ((wanted, case), (got, other))
    )
    assert [score.dice for score in scores] == [score.dice for score in others]


FORGOTTEN = {"in_plane_mm", "min_size", "normalize", "normalise", "window", "percentiles", "orientation"}


@pytest.mark.parametrize(
    "subpackage", ["sampling", "inference", "evaluation", "training", "figures", "models"]
)
def test_nothing_outside_the_preparation_takes_a_part_of_it(subpackage):
    module = importlib.import_module(f"guided_attention.{subpackage}")
    for name in module.__all__:
        member = getattr(module, name)
        if not callable(member):
            continue
        methods = (
            [value for key, value in vars(member).items() if not key.startswith("_")]
            if isinstance(member, type)
            else []
        )
        for function in (member, *filter(callable, methods)):
            try:
                parameters = set(inspect.signature(function).parameters)
            except ValueError:
                continue
            assert not parameters & FORGOTTEN, (name, parameters & FORGOTTEN)


def ct(seed):
    """Return a body of 40 HU with a brighter organ in air of -1000 HU."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in (11, 37, 41)), indexing="ij")
    body, organ = z**2 * 0.2 + y**2 + x**2 < 0.7, (x - 0.3) ** 2 + y**2 + z**2 < 0.1
    image = np.where(organ, 110.0, np.where(body, 40.0, -1000.0)) + rng.normal(0, 15, body.shape)
    return Case(f"ct {seed}", image[None], organ.astype(np.uint8), np.diag([-1.5, -1.5, 5.0, 1.0]))


@pytest.mark.parametrize("intensity", [Window(-160, 240), CohortPercentiles(), None])
@pytest.mark.parametrize("before", ["windowed", "z-scored"])
def test_a_ct_that_was_scaled_before_is_named(intensity, before):
    cases = [ct(seed) for seed in range(4)]
    preparation = Preparation(slice_axis="axial", intensity=intensity).fit(cases[:3])
    image = cases[3].image
    scaled = (
        (image.clip(-160, 240) + 160) / 400 if before == "windowed" else (image - image.mean()) / image.std()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        preparation.apply(cases[3])
    with pytest.warns(IntensityWarning, match="Case 'ct 3', channel 0: the intensities are unlike"):
        preparation.apply(replace(cases[3], image=scaled))


def test_an_mr_that_was_normalized_before_gives_the_same_labels_or_is_named(predictor, cohort):
    case = cohort[2]
    image = case.image
    normalized = replace(case, image=(image - image.mean()) / image.std() * 3 + 7)
    wanted, got = predictor.predict(case), predictor.predict(normalized)
    assert (wanted.labels != got.labels).mean() < 1e-3
    cut = replace(case, image=image.clip(*np.percentile(image, (40, 75))))
    with pytest.warns(IntensityWarning):
        predictor.predict(cut)


@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_another_spacing_than_in_training_is_named(predictor, cohort, factor):
    scaled = cohort[0].affine @ np.diag([factor, factor, factor, 1.0])
    with pytest.warns(SpacingWarning, match="the spacing of .* is far from"):
        predictor.predict(replace(cohort[0], affine=scaled))


def test_channels_are_told_apart_by_name():
    cases = [make_phantom(0, subject=number, size=32, source="t1_dual") for number in (1, 2)]
    preparation = Preparation(slice_axis="axial").fit(cases)
    case = cases[0]
    swapped = replace(case, image=case.image[::-1], channel_names=case.channel_names[::-1])
    np.testing.assert_array_equal(preparation.apply(swapped).image, preparation.apply(case).image)
    for names in ((), ("T1", "T2")):
        with pytest.raises(DataError, match=f"channels of case '{case.case_id}'"):
            preparation.apply(replace(case, channel_names=names))
    with pytest.raises(DataError, match="channels of case"):
        preparation.apply(replace(case, image=case.image[:1], channel_names=case.channel_names[:1]))


def test_the_names_of_organs_travel_with_the_network(predictor, tmp_path):
    save_checkpoint(
        tmp_path / "best.pt", {"model": predictor.model.state_dict(), "metadata": predictor.metadata}
    )
    assert Predictor.load(tmp_path / "best.pt").labels == CHAOS_MR_LABELS
    names = list(CHAOS_MR_LABELS.names.values())
    permuted = LabelSpec(dict(zip(CHAOS_MR_LABELS.values, names[::-1], strict=True)))
    assert permuted != CHAOS_MR_LABELS


def test_weights_of_a_network_with_other_settings_are_refused(predictor, tmp_path):
    save_checkpoint(
        tmp_path / "best.pt", {"model": predictor.model.state_dict(), "metadata": predictor.metadata}
    )
    other = MSGA(1, 5, **SMALL, energy="paper")
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(CheckpointError, match="energy"):
        load_weights(other, tmp_path / "best.pt")
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    assert Predictor.load(tmp_path / "best.pt").model.settings == predictor.model.settings


def test_a_preparation_of_another_kind_is_another_record():
    cases = [make_phantom(0, size=32)]
    prepared = [
        Preparation(slice_axis="axial", intensity=one).fit(cases) for one in (ZScore(), Window(0, 500), None)
    ]
    assert len({json.dumps(one.to_dict()) for one in prepared}) == 3
