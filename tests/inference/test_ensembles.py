"""Several networks: the mean of their logits, one folder, and what does not fit together."""

import json
import shutil

import numpy as np
import pytest
import torch
from tests.inference.conftest import AS_IT_IS, ORGANS, network, scan
from tests.modules import same_state
from tests.reference.geometry import Storage
from torch import nn

from guided_attention import MSGA
from guided_attention.errors import CheckpointError, MissingFileError
from guided_attention.inference import Predictor
from guided_attention.models import msga_lite
from guided_attention.training import save_checkpoint

pytestmark = pytest.mark.usefixtures("narrow_resnets")

SMALL = {"encoder": "resnet18", "channels": 4}


def other(seed, **arguments):
    model = network(**arguments)
    torch.manual_seed(seed)
    nn.init.normal_(model[0].weight)
    return model.eval()


@pytest.mark.parametrize("changes", [{}, {"patch_size": (11, 13)}])
@pytest.mark.parametrize("members", [2, 3])
def test_the_logits_are_the_mean_of_those_of_the_members(members, changes):
    case, models = scan(), [other(seed) for seed in range(members)]
    turn = Storage(case.affine, "LPS")
    batch = torch.tensor(turn.apply(case.image).swapaxes(0, 1).copy())
    with torch.no_grad():
        mean = sum(model(batch) for model in models) / members
    wanted = turn.undo(torch.softmax(mean, 1).transpose(0, 1).numpy())
    got = Predictor(models, AS_IT_IS, ORGANS, **changes).probabilities(case)
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_mirrors_and_members_are_averaged_together():
    case, models, axes = scan(), [other(seed) for seed in range(2)], ("height", "width")
    together = Predictor(models, AS_IT_IS, ORGANS, mirror_axes=axes)

    class Both(nn.Module):
        def forward(self, x):
            return (models[0](x) + models[1](x)) / 2

    alone = Predictor(Both(), AS_IT_IS, ORGANS, mirror_axes=axes)
    np.testing.assert_allclose(together.probabilities(case), alone.probabilities(case), atol=1e-6)


def test_every_member_is_in_evaluation_mode_and_gets_its_own_mode_back():
    models = [other(seed) for seed in range(2)]
    models[1].train()
    predictor = Predictor(tuple(models), AS_IT_IS, ORGANS)
    first, second = predictor.predict(scan()), predictor.predict(scan())
    np.testing.assert_array_equal(first.uncertainty, second.uncertainty)
    assert [model.training for model in models] == [False, True]
    assert list(predictor.members) == models


def test_with_model_of_an_ensemble_is_a_predictor_of_that_network():
    models, case = [other(seed) for seed in range(2)], scan()
    got = Predictor(models, AS_IT_IS, ORGANS, mirror_axes=("width",)).with_model(models[1])
    wanted = Predictor(models[1], AS_IT_IS, ORGANS, mirror_axes=("width",))
    np.testing.assert_array_equal(got.predict(case).uncertainty, wanted.predict(case).uncertainty)
    assert got.model is models[1]


def test_a_module_list_is_a_list_of_networks():
    models = [other(seed) for seed in range(2)]
    listed = Predictor(models, AS_IT_IS, ORGANS)
    for given in (nn.ModuleList(models), listed.members):
        got = Predictor(given, AS_IT_IS, ORGANS)
        assert list(got.members) == models
    np.testing.assert_array_equal(got.predict(scan()).uncertainty, listed.predict(scan()).uncertainty)
    with pytest.raises(ValueError, match="`model` must be at least one network, got an empty list"):
        Predictor(nn.ModuleList(), AS_IT_IS, ORGANS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda model: nn.init.constant_(model[0].weight, torch.nan),
            r"`model\[1\]\(images\)` must be finite",
        ),
        (lambda model: model.append(nn.Conv2d(3, 5, 1)), r"`model\[1\]\(images\)` must be logits of shape"),
        (lambda model: model.append(nn.Conv2d(7, 3, 1)), r"`model\[1\]` must take images of shape"),
        (
            lambda model: model.append(Two()),
            r"`model\[1\]\(images\)` must be a tensor of logits, got a tuple",
        ),
    ],
)
def test_an_error_names_the_network_of_an_ensemble_that_it_is_of(wrong, message):
    models = [other(seed) for seed in range(3)]
    wrong(models[1])
    with pytest.raises((ValueError, TypeError), match=message):
        Predictor(models, AS_IT_IS, ORGANS).predict(scan())
    with pytest.raises((ValueError, TypeError), match=message.replace(r"\[1\]", "")):
        Predictor(models[1], AS_IT_IS, ORGANS).predict(scan())


class Two(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("dims", [2, 3])
def test_windows_mirrors_and_ensembles_are_the_same_on_a_gpu(dims):
    case, size = scan(), (3, 5, 7)[-dims:]
    here, there = (
        Predictor(
            [other(seed, spatial_dims=dims) for seed in range(2)],
            AS_IT_IS,
            ORGANS,
            device=device,
            spatial_dims=dims,
            patch_size=size,
            mirror_axes=("height", "width"),
        ).probabilities(case)
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(there, here, atol=1e-3)  # TF32 in convolutions


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("models", "message"),
    [
        (list, "`model` must be at least one network, got an empty list"),
        (lambda: [network(), "msga"], r"`model\[1\]` must be a torch.nn.Module, got a str"),
        (
            lambda: [msga_lite(1, 3, **SMALL), msga_lite(1, 4, **SMALL)],
            r"`num_classes of model\[1\]` must be 3, as of model\[0\], got 4",
        ),
        (
            lambda: [network(), msga_lite(1, 3, **SMALL), msga_lite(2, 3, **SMALL)],
            r"`in_channels of model\[2\]` must be 1, as of model\[1\], got 2",
        ),
        (
            lambda: [msga_lite(1, 3, **SMALL), msga_lite(1, 3, spatial_dims=3, **SMALL)],
            r"`spatial_dims of model\[1\]` must be 2, as of model\[0\], got 3",
        ),
    ],
)
def test_members_that_do_not_belong_together_are_named(models, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Predictor(models(), AS_IT_IS, ORGANS)


@pytest.fixture(scope="module")
def ensemble():
    """Networks of two builders."""
    torch.manual_seed(3)
    models = [MSGA(1, 3, steps=1, **SMALL), msga_lite(1, 3, **SMALL)]
    return Predictor(models, AS_IT_IS, ORGANS, device="cpu", patch_size=(7, 11), mirror_axes=("width",))


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory, ensemble):
    folder = tmp_path_factory.mktemp("ensemble") / "saved"
    ensemble.save(folder)
    return folder


@pytest.fixture
def saved(tmp_path, saved_once):
    shutil.copytree(saved_once, tmp_path / "saved")
    return tmp_path / "saved"


def test_one_folder_holds_all_members(saved, ensemble):
    case = scan(shape=(2, 11, 13))
    assert sorted(path.name for path in saved.iterdir()) == ["member-0", "member-1", "predictor.json"]
    loaded = Predictor.load(saved, device="cpu")
    assert loaded.metadata == ensemble.metadata
    got, wanted = loaded.predict(case), ensemble.predict(case)
    np.testing.assert_array_equal(got.labels, wanted.labels)
    np.testing.assert_array_equal(got.uncertainty, wanted.uncertainty)
    json.dumps(loaded.metadata)


def test_networks_that_are_given_take_the_weights_of_all_members(saved, ensemble):
    given = [MSGA(1, 3, steps=1, **SMALL), msga_lite(1, 3, **SMALL)]
    Predictor.load(saved, device="cpu", model=given)
    for model, wanted in zip(given, ensemble.members, strict=True):
        assert same_state(model, wanted)
    with pytest.raises(ValueError, match="`model` must be as many networks as were saved, got 1"):
        Predictor.load(saved, model=given[0])
    with pytest.raises(CheckpointError, match="member-0"):
        Predictor.load(saved, model=given[::-1])


def test_a_missing_member_is_named(saved):
    shutil.rmtree(saved / "member-1")
    with pytest.raises(MissingFileError, match=r"member-1, which has no config\.json"):
        Predictor.load(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_or_missing_file_of_a_member_is_named(saved, name):
    file = saved / "member-1" / name
    if not file.exists():
        file = file.with_name("model.pt")
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"member-1.*{file.name}"):
        Predictor.load(saved)
    file.unlink()
    with pytest.raises(MissingFileError, match=rf"member-1, which has no {file.name}"):
        Predictor.load(saved)


def test_members_in_another_order_or_of_another_ensemble_are_refused(saved):
    (saved / "member-0").rename(saved / "kept")
    (saved / "member-1").rename(saved / "member-0")
    (saved / "kept").rename(saved / "member-1")
    with pytest.raises(CheckpointError, match=r"member-0/config\.json of another network"):
        Predictor.load(saved)


def test_the_folder_of_a_single_network_is_as_it_was(tmp_path):
    Predictor(msga_lite(1, 3, **SMALL), AS_IT_IS, ORGANS, device="cpu").save(tmp_path / "saved")
    held = {path.name for path in (tmp_path / "saved").iterdir()}
    assert {"config.json", "predictor.json"} < held
    assert len(held) == 3


def test_a_checkpoint_has_one_network(tmp_path):
    models = [network(), network()]
    predictor = Predictor(models[0], AS_IT_IS, ORGANS)
    save_checkpoint(tmp_path / "own.pt", {"model": models[0].state_dict(), "metadata": predictor.metadata})
    with pytest.raises(ValueError, match="`model` must be one network for a checkpoint, got 2"):
        Predictor.load(tmp_path / "own.pt", model=models)


def test_a_folder_of_predictions_knows_its_ensemble(tmp_path):
    models, cases = [other(seed) for seed in range(2)], [scan()]
    Predictor(models, AS_IT_IS, ORGANS).predict_to(tmp_path / "out", cases)
    assert (
        Predictor(models, AS_IT_IS, ORGANS).predict_to(tmp_path / "out", cases, resume=True)[0].status
        == "skipped"
    )
    for changed in (Predictor(models[:1], AS_IT_IS, ORGANS), Predictor(models[::-1], AS_IT_IS, ORGANS)):
        with pytest.raises(ValueError, match="another"):
            changed.predict_to(tmp_path / "out", cases, resume=True)
