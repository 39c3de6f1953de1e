"""What training and `save` leave behind is enough to predict, in another process and for ever."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.inference.conftest import AS_IT_IS, ORGANS, network, scan
from tests.modules import opened, same_state
from torch import nn
from torch.utils.data import DataLoader

from guided_attention import MSGA, Trainer, _checkpoints
from guided_attention.case import Case
from guided_attention.errors import CheckpointError, ExistingFileError, GuidedAttentionError, MissingFileError
from guided_attention.inference import PostProcessing, Predictor
from guided_attention.labels import LabelSpec
from guided_attention.losses import GuidedAttentionLoss
from guided_attention.preparation import Preparation
from guided_attention.training import TrainerConfig, load_weights, save_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = {"encoder": "resnet18", "channels": 4, "steps": 1}
PREDICT = """
import sys
import numpy as np
from guided_attention.case import Case
from guided_attention.inference import PostProcessing, Predictor
given, *paths = sys.argv[1:]
scan = np.load(given)
for number, path in enumerate(paths):
    predictor = Predictor.load(path, device="cpu")
    prediction = predictor.predict(Case("7", scan["image"], None, scan["affine"]))
    np.savez(f"{number}.npz", labels=prediction.labels, uncertainty=prediction.uncertainty)
"""


def _trained(tmp_path):
    """Train a network for one step, and return its predictor, a scan and the run folder."""
    torch.manual_seed(0)
    cases = [scan(seed=seed, shape=(2, 37, 41)) for seed in (1, 2)]
    preparation = Preparation(spacing_mm=(None, 1.9, 1.9), min_size=(17, 19)).fit(cases)
    predictor = Predictor(
        MSGA(1, 3, **SMALL),
        preparation,
        ORGANS,
        device="cpu",
        postprocess=PostProcessing(keep_largest=(1, 2)),
    )
    images = torch.randn(2, 1, 17, 19)
    trainer = Trainer(
        predictor.model,
        GuidedAttentionLoss(),
        torch.optim.SGD(predictor.model.parameters(), lr=0.01),
        train_loader=DataLoader([(image, (image[0] > 0).long()) for image in images], batch_size=2),
        validate=lambda _: 1.0,
        run_dir=tmp_path / "run",
        config=TrainerConfig(max_epochs=1, quiet=True),
        metadata=predictor.metadata,
    )
    trainer.fit()
    load_weights(predictor.model, tmp_path / "run" / "best.pt")
    return predictor, cases[0], tmp_path / "run"


def _elsewhere(paths, case, tmp_path):
    """Predict in another process that is given the folders and the scan, and nothing else."""
    np.savez(tmp_path / "scan.npz", image=case.image, affine=case.affine)
    arguments = [str(tmp_path / "scan.npz"), *map(str, paths)]
    subprocess.run(
        [sys.executable, "-c", PREDICT, *arguments], check=True, cwd=tmp_path, env=dict(os.environ)
    )
    return [np.load(tmp_path / f"{number}.npz") for number in range(len(paths))]


def _assert_same(got, wanted):
    np.testing.assert_array_equal(got["labels"], wanted.labels)
    np.testing.assert_array_equal(got["uncertainty"], wanted.uncertainty)
    assert len(np.unique(wanted.uncertainty)) > 100


@pytest.mark.example
def test_a_copy_of_a_run_folder_predicts_the_same_voxels_elsewhere(tmp_path):
    predictor, case, run = _trained(tmp_path)
    wanted = predictor.predict(case)
    copy = tmp_path / "moved" / "elsewhere"
    shutil.copytree(run, copy)
    shutil.rmtree(run)
    assert Predictor.load(copy / "last.pt").predict(case).labels.shape == wanted.labels.shape
    predictor.save(tmp_path / "saved")
    for got in _elsewhere([copy, copy / "best.pt", tmp_path / "saved"], case, tmp_path):
        _assert_same(got, wanted)


@pytest.mark.parametrize("golden", ["predictor-1", "predictor-2", "run-1"])
def test_golden_folders_are_loaded_and_predict_the_same(tmp_path, golden):
    with tarfile.open(GOLDEN / f"{golden}.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    given = np.load(tmp_path / "scan.npz")
    case = Case("golden", given["image"], None, given["affine"], tuple(given["channel_names"].tolist()))
    prediction = Predictor.load(tmp_path / golden.partition("-")[0], device="cpu").predict(case)
    np.testing.assert_array_equal(prediction.labels, given["labels"])
    np.testing.assert_allclose(prediction.uncertainty, given["uncertainty"], atol=1e-4)
    assert len(np.unique(given["labels"])) == 3


def test_settings_come_back_with_the_network(tmp_path):
    labels = LabelSpec({2: "liver", 5: "spleen"}, pairs=((2, 5),), ignore_value=255)
    preparation = Preparation(neighbours=1).fit([scan(seed=1)])
    predictor = Predictor(
        MSGA(3, 3, **SMALL),
        preparation,
        labels,
        device="cpu",
        batch_size=3,
        precision="bf16",
        patch_size=[7, 5],
        overlap=0.25,
        mirror_axes=["width"],
        postprocess=PostProcessing(foreground_as_one=True, keep_largest=(5,)),
    )
    predictor.save(tmp_path / "saved")
    loaded = Predictor.load(tmp_path / "saved", device="cpu")
    assert (loaded.preparation, loaded.labels) == (preparation, labels)
    assert (loaded.batch_size, loaded.precision, loaded.spatial_dims) == (3, "bf16", 2)
    assert (loaded.patch_size, loaded.overlap, loaded.mirror_axes) == ((7, 5), 0.25, ("width",))
    assert loaded.postprocess == PostProcessing(foreground_as_one=True, keep_largest=(5,))
    assert loaded.model.settings == predictor.model.settings
    assert loaded.metadata == predictor.metadata
    json.dumps(predictor.metadata)


def test_a_network_of_ones_own_is_saved_by_checkpoint_and_loaded_into(tmp_path):
    predictor, case = Predictor(network(), AS_IT_IS, ORGANS), scan()
    with pytest.raises(GuidedAttentionError, match="modules of your own"):
        predictor.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    save_checkpoint(
        tmp_path / "own.pt", {"model": predictor.model.state_dict(), "metadata": predictor.metadata}
    )
    with pytest.raises(CheckpointError, match="`model` must be given"):
        Predictor.load(tmp_path / "own.pt")
    other = network()
    nn.init.zeros_(other[0].weight)
    got = Predictor.load(tmp_path / "own.pt", model=other).predict(case)
    np.testing.assert_array_equal(got.labels, predictor.predict(case).labels)


def test_loaded_networks_are_in_evaluation_mode(tmp_path):
    rebuilt, own = Predictor(MSGA(1, 3, **SMALL), AS_IT_IS, ORGANS), Predictor(network(), AS_IT_IS, ORGANS)
    for name, one in (("rebuilt", rebuilt), ("own", own)):
        values = {"model": one.model.state_dict(), "metadata": one.metadata}
        save_checkpoint(tmp_path / f"{name}.pt", values)
    rebuilt.save(tmp_path / "saved")
    loaded = [
        Predictor.load(tmp_path / "rebuilt.pt"),
        Predictor.load(tmp_path / "saved"),
        Predictor.load(tmp_path / "saved", model=MSGA(1, 3, **SMALL).train()),
        Predictor.load(tmp_path / "own.pt", model=network().train()),
    ]
    assert [any(module.training for module in one.model.modules()) for one in loaded] == [False] * 4


def test_a_network_that_was_changed_in_what_its_weights_do_not_show_has_to_be_passed(tmp_path):
    """Otherwise it was built anew without the change, and predicted something else."""

    def changed():
        model = opened(MSGA(1, 3, **SMALL))
        model.encoder.maxpool = torch.nn.Identity()
        return model

    model, path = changed().eval(), tmp_path / "best.pt"
    predictor = Predictor(model, AS_IT_IS, ORGANS, device="cpu")
    assert predictor.metadata["model"] is None
    save_checkpoint(path, {"model": model.state_dict(), "metadata": predictor.metadata})
    with pytest.raises(
        CheckpointError, match="`model` must be given for .*: its network has parts of your own"
    ):
        Predictor.load(path)
    case = scan(seed=1, shape=(2, 37, 41))
    loaded = Predictor.load(path, model=changed(), device="cpu")
    _assert_same(vars(loaded.predict(case)), predictor.predict(case))
    whole = Predictor(MSGA(1, 3, **SMALL), AS_IT_IS, ORGANS, device="cpu")
    assert whole.metadata["model"] == whole.model.settings.to_dict()


def test_a_checkpoint_is_read_once_and_no_random_weights_are_drawn(tmp_path, monkeypatch):
    predictor, path, read = Predictor(opened(MSGA(1, 3, **SMALL)), AS_IT_IS, ORGANS), tmp_path / "best.pt", []
    save_checkpoint(path, {"model": predictor.model.state_dict(), "metadata": predictor.metadata})
    read_contents = _checkpoints.read_contents
    monkeypatch.setattr(_checkpoints, "read_contents", lambda file: read.append(file) or read_contents(file))
    before = torch.random.get_rng_state()
    loaded = Predictor.load(path, device="cpu")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert read == [path]
    assert loaded.model.settings == predictor.model.settings
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())
    assert same_state(loaded.model, predictor.model)


def test_weights_without_metadata_say_how_to_go_on(tmp_path):
    save_checkpoint(tmp_path / "bare.pt", {"model": network().state_dict()})
    with pytest.raises(CheckpointError, match=r"holds weights only\. Train with Trainer\(metadata=pred"):
        Predictor.load(tmp_path / "bare.pt")


@pytest.mark.parametrize("path", ["nowhere", "empty", "nowhere/best.pt"])
def test_a_path_without_a_network_is_named(tmp_path, path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match=rf"`path` must be .*got .*{path}"):
        Predictor.load(tmp_path / path)


@pytest.fixture(scope="module")
def saved_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "saved"
    Predictor(MSGA(1, 3, **SMALL), AS_IT_IS, ORGANS, device="cpu").save(folder)
    return folder


@pytest.fixture
def record(saved_folder):
    """The record of a saved predictor, as it was again after the test."""
    file = saved_folder / "predictor.json"
    before = file.read_bytes()
    yield file
    file.write_bytes(before)


def test_nothing_is_overwritten(tmp_path):
    predictor = Predictor(MSGA(1, 3, **SMALL), AS_IT_IS, ORGANS, device="cpu")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "notes.txt").write_text("mine")
    with pytest.raises(ExistingFileError):
        predictor.save(tmp_path / "saved")
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["notes.txt"]


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda values: values | {"version": 99},
            r"version in metadata of .* must be at most 2, got 99\. Update",
        ),
        (lambda values: values | {"preperation": {}}, "Did you mean 'preparation'"),
        (lambda values: {name: value for name, value in values.items() if name != "labels"}, "no .'labels'."),
        (
            lambda values: values | {"preparation": values["preparation"] | {"spacing": 1}},
            "Did you mean 'spacing_mm'",
        ),
        (lambda values: values | {"labels": {"names": {"0": "liver"}}}, "labels"),
        (lambda values: values | {"precision": "fp8"}, "precision"),
        (lambda values: values | {"batch_size": "many"}, "batch_size"),
        (lambda values: values | {"spatial_dims": None}, "spatial_dims"),
        (lambda values: values | {"patch_size": [3]}, "patch_size"),
        (lambda values: values | {"overlap": "half"}, "overlap"),
        (lambda values: values | {"mirror_axes": ["depth"]}, "mirror_axes"),
        (lambda values: values | {"postprocess": {"keep_largest": [7]}}, "postprocess.keep_largest"),
        (lambda values: values | {"postprocess": {"largest": [7]}}, "Did you mean 'keep_largest'"),
        (lambda _: [1, 2], "must be a mapping"),
        (lambda _: None, "must be a mapping"),
    ],
)
def test_a_changed_record_is_refused_by_name(record, change, message):
    record.write_text(json.dumps(change(json.loads(record.read_text()))))
    with pytest.raises(CheckpointError, match=message) as caught:
        Predictor.load(record.parent)
    assert caught.value.file == record


def test_a_record_that_is_no_json_is_refused(record):
    for content in (b"", record.read_bytes()[:-40], b"\xff\xfe"):
        record.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"predictor\.json` must be the JSON"):
            Predictor.load(record.parent)


def _saved(folder, seed=1):
    torch.manual_seed(seed)
    predictor = Predictor(MSGA(1, 3, **SMALL), AS_IT_IS, ORGANS, device="cpu")
    predictor.save(folder)
    return predictor


def test_an_edited_record_is_refused_even_where_it_could_be_used(tmp_path):
    _saved(tmp_path / "saved")
    file = tmp_path / "saved" / "predictor.json"
    file.write_text(file.read_text().replace('"liver"', '"lover"'))
    with pytest.raises(CheckpointError, match="another checksum: it is damaged or was edited"):
        Predictor.load(tmp_path / "saved")
    file.write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="got a damaged file"):
        Predictor.load(tmp_path / "saved")


def test_the_network_of_another_folder_is_refused(tmp_path):
    _saved(tmp_path / "one"), _saved(tmp_path / "two", seed=2)
    for path in (tmp_path / "two").iterdir():
        if path.name != "predictor.json":
            shutil.copy(path, tmp_path / "one" / path.name)
    with pytest.raises(CheckpointError, match=r"config\.json of another network"):
        Predictor.load(tmp_path / "one")


def test_a_network_that_is_given_takes_the_weights_that_were_saved(tmp_path):
    wanted = _saved(tmp_path / "saved").model.state_dict()
    other, given = MSGA(1, 3, **SMALL), MSGA(1, 3, **SMALL)
    save_checkpoint(tmp_path / "saved" / "a.pt", {"model": other.state_dict()})
    Predictor.load(tmp_path / "saved", device="cpu", model=given)
    for name, value in given.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), wanted[name].numpy())
    with pytest.raises(CheckpointError, match="energy 'danet' instead of 'paper'"):
        Predictor.load(tmp_path / "saved", model=MSGA(1, 3, **SMALL, energy="paper"))
    for path in (tmp_path / "saved").glob("model.*"):
        path.unlink()
    with pytest.raises(MissingFileError, match="which has no weights"):
        Predictor.load(tmp_path / "saved", model=given)


def test_a_run_without_a_best_checkpoint_names_the_others(tmp_path):
    save_checkpoint(tmp_path / "last.pt", {"model": {}})
    with pytest.raises(MissingFileError, match=r"Name one of its files: last\.pt"):
        Predictor.load(tmp_path)
    with pytest.raises(MissingFileError, match="must be an existing file or folder"):
        Predictor.load("a" * 300)
