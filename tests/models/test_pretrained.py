"""Networks saved with their settings: built again elsewhere to the bit, and damage of every kind refused."""

import copy
import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from tests.modules import drawn, opened, same_state
from torch import nn

from guided_attention import MSGA, MultiScaleFusion, SegmentationModel
from guided_attention.attention import CAM, MultiScaleGuidedAttention
from guided_attention.encoders import resnet_encoder
from guided_attention.errors import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    ExistingFileError,
    MissingFileError,
    MissingPackageError,
)
from guided_attention.models import (
    ModelSettings,
    build,
    daf,
    danet,
    from_pretrained,
    fuse,
    ms_cam,
    ms_danet,
    ms_dist,
    ms_dual,
    ms_dual_guided,
    ms_pam,
    msga_lite,
    save_pretrained,
)
from guided_attention.models.pretrained import _BUILDERS, _COMMON
from guided_attention.training import load_weights, save_checkpoint

pytestmark = pytest.mark.usefixtures("narrow_resnets")

TINY = {"encoder": "resnet18", "channels": 4}
NETWORKS = {
    "msga": lambda: MSGA(2, 3, **TINY, steps=3, energy="paper", shared_guide=False),
    "msga, one head": lambda: MSGA(1, 3, **TINY, deeply_supervised=False),
    "msga_lite": lambda: msga_lite(1, 3, **TINY, factor=2, energy="paper"),
    "daf": lambda: daf(1, 3, **TINY),
    "ms_pam": lambda: ms_pam(1, 3, **TINY),
    "ms_cam": lambda: ms_cam(1, 3, **TINY, energy="paper"),
    "ms_danet": lambda: ms_danet(3, 2, **TINY, energy="paper"),
    "ms_dual": lambda: ms_dual(1, 3, **TINY, steps=1, energy="paper"),
    "ms_dist": lambda: ms_dist(1, 3, **TINY, energy="paper"),
    "ms_dual_guided": lambda: ms_dual_guided(1, 3, **TINY, steps=1),
    "danet": lambda: danet(1, 3, encoder="resnet18", energy="paper"),
    "volumes": lambda: msga_lite(1, 2, **TINY, spatial_dims=3),
}
_ELSEWHERE = """
import sys, torch
from pathlib import Path
from guided_attention.encoders import resnet
from guided_attention.models import from_pretrained
from tests.modules import narrow_layouts
resnet._LAYOUTS |= narrow_layouts()
for folder in sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir()):
    with torch.inference_mode():
        torch.save(from_pretrained(folder)(torch.load(folder / "x.pt")), folder / "logits.pt")
"""


def shape_of(model):
    return (1, model.in_channels, *((37, 53) if model.spatial_dims == 2 else (5, 37, 23)))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Every network with its logits, and the folder in which another process has left those of what it loaded."""
    root, expected = tmp_path_factory.mktemp("saved"), {}
    for name, make in NETWORKS.items():
        model = opened(make()).eval()
        save_pretrained(model, root / name)
        x = drawn(*shape_of(model))
        torch.save(x, root / name / "x.pt")
        with torch.inference_mode():
            expected[name] = (model, model(x))
    subprocess.run([sys.executable, "-c", _ELSEWHERE, str(root)], check=True, cwd=Path(__file__).parents[2])
    return root, expected


@pytest.mark.parametrize("name", NETWORKS)
def test_another_process_has_the_same_logits_to_the_bit(elsewhere, name):
    root, expected = elsewhere
    logits = torch.load(root / name / "logits.pt")
    assert torch.equal(logits, expected[name][1])
    assert logits.std() > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_loaded_is_the_network_that_was_saved(elsewhere, name):
    root, expected = elsewhere
    model, loaded = expected[name][0], from_pretrained(root / name)
    assert loaded.settings == model.settings
    assert (loaded.in_channels, loaded.num_classes) == (model.in_channels, model.num_classes)
    assert loaded.spatial_dims == model.spatial_dims
    assert same_state(loaded, model)
    assert not any(tensor.is_meta for tensor in (*loaded.parameters(), *loaded.buffers()))
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert not any(module.training for module in loaded.modules())
    energies = [{part.energy for part in net.modules() if isinstance(part, CAM)} for net in (model, loaded)]
    assert energies[0] == energies[1]


# The settings


def test_the_settings_hold_every_argument_as_a_plain_value():
    model = MSGA(2, 3, **TINY, energy="paper")
    arguments = {
        "in_channels": 2,
        "num_classes": 3,
        "encoder": "resnet18",
        "encoder_weights": None,
        "channels": 4,
        "steps": 2,
        "energy": "paper",
        "shared_guide": True,
        "deeply_supervised": True,
        "spatial_dims": 2,
    }
    assert model.settings == ModelSettings("msga", arguments)
    assert json.loads(json.dumps(model.settings.to_dict())) == {"builder": "msga", "arguments": arguments}
    assert ModelSettings.from_dict(model.settings.to_dict()) == model.settings
    assert copy.deepcopy(model).settings == model.settings


@pytest.mark.parametrize("name", _BUILDERS)
def test_the_table_of_builders_names_the_arguments_of_each(name):
    row = _BUILDERS[name]
    with torch.device("meta"):
        settings = row.build().settings
    assert settings.builder == name
    assert sorted(settings.arguments) == sorted((*_COMMON, *row.options))
    with torch.device("meta"):
        again = build(settings)
    assert again.settings == settings


def test_the_weights_of_an_encoder_are_not_looked_for_again(tmp_path, monkeypatch):
    file = tmp_path / "resnet18.pth"
    torch.save(resnet_encoder("resnet18").state_dict(), file)
    model = daf(encoder="resnet18", channels=4, encoder_weights=file)
    assert model.settings.arguments["encoder_weights"] is None
    save_pretrained(model, tmp_path / "saved")
    file.unlink()
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", None)
    assert torch.equal(from_pretrained(tmp_path / "saved").encoder.conv1.weight, model.encoder.conv1.weight)


def own_network():
    encoder = resnet_encoder("resnet18")
    fusion = MultiScaleFusion(encoder.out_channels, channels=4)
    return SegmentationModel(encoder, fusion, MultiScaleGuidedAttention(4, num_scales=4), num_classes=3)


def changed_network():
    model = daf(**TINY)
    model.attended_heads[0][0] = nn.Conv2d(4, 7, 1)
    return model


def with_another(change):
    """A network whose weights are as its builder has them."""

    def make():
        model = daf(**TINY)
        change(model)
        return model

    return make


def _without_pooling(model):
    model.encoder.maxpool = nn.Identity()


def _smooth(model):
    model.encoder.layer2[1].relu = nn.GELU()


def _with_stride(model):
    model.encoder.conv1.stride = (1, 1)


def _with_eps(model):
    model.encoder.layer4[0].bn2.eps = 0.1


def _with_forward(model):
    model.fusion.forward = print


def _with_hook(model):
    model.encoder.layer1.register_forward_hook(lambda *given: given[-1] * 3)


def _with_hook_before(model):
    model.register_forward_pre_hook(lambda _model, given: (given[0] * 3,))


def _with_another_in_a_row(model):
    model.encoder.layer2.append(nn.Tanh())


def _with_another_head(model):
    model.attended_heads[0].append(nn.Tanh())


def of_another_energy(model):
    for part in model.modules():
        if isinstance(part, CAM):
            part.energy = "paper"
    return model


def on_meta():
    with torch.device("meta"):
        return daf(**TINY)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            own_network,
            r"by one of msga, .*, got a SegmentationModel with modules of your own\. Save its weights with",
        ),
        (
            lambda: daf(encoder=resnet_encoder("resnet18"), channels=4),
            "modules of your own. Save its weights",
        ),
        (lambda: nn.Linear(3, 5), "got a Linear with modules of your own"),
        (
            changed_network,
            r"as its builder made it, got one that was changed in attended_heads\.0\.0\.bias, attended",
        ),
        (
            with_another(_without_pooling),
            r"got one that was changed in encoder\.maxpool, .*\. Save its weights",
        ),
        (with_another(_smooth), r"got one that was changed in encoder\.layer2\.1\.relu\. Save"),
        (with_another(_with_stride), r"got one that was changed in encoder\.conv1\.stride\. Save"),
        (with_another(_with_eps), r"got one that was changed in encoder\.layer4\.0\.bn2\.eps\. Save"),
        (with_another(_with_forward), r"got one that was changed in fusion\. Save"),
        (with_another(_with_hook), r"got one that was changed in encoder\.layer1\.forward_hooks\. Save"),
        (with_another(_with_hook_before), r"got one that was changed in forward_hooks\. Save"),
        (with_another(_with_another_in_a_row), r"got one that was changed in encoder\.layer2\.2\. Save"),
        (with_another(_with_another_head), r"got one that was changed in attended_heads\.0\.4\. Save"),
        (lambda: of_another_energy(ms_cam(**TINY)), r"got one that was changed in attention\..*\.energy"),
        (lambda: fuse(daf(**TINY)), r"got one that was changed in attention\.gates\..*\. Save its weights"),
        (on_meta, "`model` must be a network with weights in memory, got one on the meta device"),
    ],
)
def test_a_network_that_could_not_be_built_again_is_refused_with_the_way_out(tmp_path, make, message):
    with pytest.raises(ArgumentError, match=message):
        save_pretrained(make(), tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_the_way_out_for_a_network_of_ones_own_works(tmp_path):
    first, second = own_network(), own_network()
    assert first.settings is None
    save_checkpoint(tmp_path / "own.pt", {"model": first.state_dict()})
    load_weights(second, tmp_path / "own.pt")
    assert torch.equal(second.encoder.conv1.weight, first.encoder.conv1.weight)


def test_another_energy_cannot_slip_in(tmp_path):
    trained, fresh = opened(ms_cam(**TINY, energy="paper")), ms_cam(**TINY)
    metadata = {"model": trained.settings.to_dict()}
    save_checkpoint(tmp_path / "best.pt", {"model": trained.state_dict(), "metadata": metadata})
    with pytest.raises(CheckpointError, match="with energy 'paper' instead of 'danet'"):
        load_weights(fresh, tmp_path / "best.pt")
    load_weights(ms_cam(**TINY, energy="paper"), tmp_path / "best.pt")


@pytest.mark.parametrize("package", [True, False])
def test_another_energy_cannot_slip_in_from_a_folder(tmp_path, monkeypatch, package):
    trained, fresh = (danet(1, 3, encoder="resnet18", energy=energy) for energy in ("paper", "danet"))
    if not package:
        monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    save_pretrained(opened(trained), tmp_path / "saved")
    monkeypatch.undo()
    file = tmp_path / "saved" / ("model.safetensors" if package else "model.pt")
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    with pytest.raises(CheckpointError, match="with energy 'paper' instead of 'danet'"):
        load_weights(fresh, file)
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())
    for other in (danet(1, 3, encoder="resnet18", energy="paper"), from_pretrained(tmp_path / "saved")):
        load_weights(other, file)
        assert same_state(other, trained)


@pytest.mark.parametrize("header", [None, {"format": "pt"}, {"network": "a ResNet"}, {"network": "[3]"}])
def test_files_that_tell_no_settings_load_as_before(tmp_path, header):
    trained, fresh = opened(ms_cam(**TINY, energy="paper")), ms_cam(**TINY)
    (tmp_path / "model.safetensors").write_bytes(save(trained.state_dict(), header))
    load_weights(fresh, tmp_path / "model.safetensors")
    assert torch.equal(fresh.encoder.conv1.weight, trained.encoder.conv1.weight)


def test_what_changes_no_logits_in_evaluation_mode_may_differ(tmp_path):
    model = nn.SyncBatchNorm.convert_sync_batchnorm(opened(danet(1, 3, encoder="resnet18")))
    model.encoder.set_grad_checkpointing()
    model.note = "fold 3"
    model.loss = nn.Sequential(nn.Softmax(dim=1), nn.CrossEntropyLoss())
    model.encoder.layer1[0].tap = nn.Identity()
    for part in model.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False
        elif isinstance(part, nn.SyncBatchNorm):
            part.momentum = 0.01
        elif isinstance(part, nn.Dropout2d):
            part.p = 0.5
    x = drawn(1, 1, 37, 53)
    with torch.inference_mode():
        torch.testing.assert_close(
            from_pretrained(save_pretrained(model, tmp_path / "saved"))(x), model.eval()(x), rtol=0, atol=0
        )


# Ways of saving


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: torch.compile(net, backend="eager")])
def test_a_wrapped_network_is_saved_as_the_network_in_it(tmp_path, wrap):
    model = opened(daf(**TINY))
    save_pretrained(wrap(model), tmp_path / "saved")
    loaded = from_pretrained(tmp_path / "saved")
    assert same_state(loaded, model)


def test_a_network_with_a_compiled_encoder_is_saved_under_plain_names(tmp_path):
    model = daf(**TINY)
    weight = model.encoder.conv1.weight
    model.encoder = torch.compile(model.encoder, backend="eager")
    save_pretrained(model, tmp_path / "saved")
    assert torch.equal(from_pretrained(tmp_path / "saved").encoder.conv1.weight, weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_precision_and_layout_in_memory_are_the_networks_affair(tmp_path, dtype):
    model = opened(daf(**TINY)).to(dtype, memory_format=torch.channels_last).eval()
    loaded = from_pretrained(save_pretrained(model, tmp_path / "saved"))
    x = drawn(1, 1, 37, 53, dtype=dtype)
    assert loaded.encoder.conv1.weight.dtype == dtype
    assert torch.equal(loaded.encoder.conv1.weight, model.encoder.conv1.weight)
    assert torch.equal(loaded(x), model.to(memory_format=torch.contiguous_format)(x))


def test_without_safetensors_torchs_format_is_written_and_the_other_names_the_extra(tmp_path, monkeypatch):
    model = opened(daf(**TINY))
    save_pretrained(model, tmp_path / "safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    save_pretrained(model, tmp_path / "plain")
    names = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("safetensors", "plain")]
    assert names == [["config.json", "model.safetensors"], ["config.json", "model.pt"]]
    loaded = from_pretrained(tmp_path / "plain")
    assert same_state(loaded, model)
    with pytest.raises(MissingPackageError, match=r"pip install 'guided-attention\[safetensors\]'"):
        from_pretrained(tmp_path / "safetensors")


def test_the_weights_can_be_loaded_without_the_settings(tmp_path):
    model, other = opened(daf(**TINY)), daf(**TINY)
    load_weights(other, save_pretrained(model, tmp_path / "saved") / "model.safetensors")
    assert torch.equal(other.encoder.conv1.weight, model.encoder.conv1.weight)


def test_a_folder_is_replaced_only_when_asked_and_only_one_of_ours(tmp_path):
    first, second, folder = opened(daf(**TINY)), opened(ms_pam(**TINY), seed=3), tmp_path / "saved"
    assert save_pretrained(first, folder) == folder
    with pytest.raises(ExistingFileError, match="must be new or empty"):
        save_pretrained(second, folder)
    assert from_pretrained(folder).settings.builder == "daf"
    # A write into the working directory that was killed leaves its draft there.
    (folder / f".unfinished-{'0' * 32}.config.json").write_text("{")
    save_pretrained(second, folder, overwrite=True)
    assert from_pretrained(folder).settings.builder == "ms_pam"
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(
        ExistingFileError, match=r"must hold nothing but config\.json, .*, got .* with notes\.txt"
    ):
        save_pretrained(first, folder, overwrite=True)
    assert from_pretrained(folder).settings.builder == "ms_pam"
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_save_that_fails_leaves_what_was_there(tmp_path, monkeypatch, overwrite):
    folder = tmp_path / "saved"
    if overwrite:
        save_pretrained(opened(daf(**TINY)), folder)

    def fail(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save", fail)
    with pytest.raises(OSError, match="No space left"):
        save_pretrained(ms_pam(**TINY), folder, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == (["saved"] if overwrite else [])
    if overwrite:
        assert from_pretrained(folder).settings.builder == "daf"


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path, monkeypatch):
    folder, renames = save_pretrained(daf(**TINY), tmp_path / "saved"), []
    rename = Path.rename

    def second_fails(self, target):
        renames.append(target)
        if len(renames) == 2:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(OSError, match="Input/output"):
        save_pretrained(ms_pam(**TINY), folder, overwrite=True)
    assert from_pretrained(folder).settings.builder == "daf"
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


# Damage


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_pretrained(opened(daf(**TINY)), tmp_path_factory.mktemp("whole") / "daf")


@pytest.fixture
def folder(saved, tmp_path):
    """A copy whose files may be damaged."""
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_every_bit_of_the_settings_counts(folder, monkeypatch):
    """One in five of them here; what loads is the same, as where a blank becomes another blank."""
    monkeypatch.setattr("guided_attention.models.pretrained._read_weights", lambda *_: {})
    monkeypatch.setattr(
        "guided_attention.models.pretrained.matching_entries", lambda *_: pytest.fail("accepted")
    )
    file = folder / "config.json"
    raw = file.read_bytes()
    whole = json.loads(raw)
    for bit in range(0, 8 * len(raw), 5):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        if _as_json(damaged) != whole:
            with pytest.raises(CheckpointError):
                from_pretrained(folder)
    for length in range(len(raw) - 2):
        file.write_bytes(raw[:length])
        with pytest.raises(CheckpointError, match=r"config\.json, which is damaged"):
            from_pretrained(folder)


def _as_json(raw):
    try:
        return json.loads(raw.decode())
    except ValueError:
        return None


@pytest.mark.parametrize("where", range(7))
def test_every_damage_of_the_weights_is_found(folder, where):
    file = folder / "model.safetensors"
    raw = file.read_bytes()
    generator = random.Random(where)  # noqa: S311 - which bit, no secret
    bit = generator.randrange(8 * (3000 if where % 2 else len(raw)))
    damaged = bytearray(raw)
    damaged[bit // 8] ^= 1 << bit % 8
    for content in (damaged, raw[: bit // 8]):
        file.write_bytes(content)
        with pytest.raises(
            CheckpointError, match=r"got .*model\.safetensors with another checksum"
        ) as caught:
            from_pretrained(folder)
        assert caught.value.file == file


def test_a_missing_file_is_named(folder, tmp_path):
    with pytest.raises(
        MissingFileError, match=r"must be one that `save_pretrained` wrote, got .*none, which has no"
    ):
        from_pretrained(tmp_path / "none")
    (folder / "model.safetensors").unlink()
    with pytest.raises(MissingFileError, match=r"which has no model\.safetensors"):
        from_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(MissingFileError, match=r"which has no config\.json"):
        from_pretrained(folder)


def rewritten(folder, **changes):
    """Change entries of the settings, or delete them, and give them a checksum that fits."""
    file = folder / "config.json"
    config = {
        name: value for name, value in (json.loads(file.read_text()) | changes).items() if value is not ...
    }
    held = {name: value for name, value in config.items() if name != "sha256"}
    if "sha256" not in changes:
        config["sha256"] = hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps(config))


ARGUMENTS = {
    "in_channels": 1,
    "num_classes": 5,
    "encoder": "resnet18",
    "encoder_weights": None,
    "channels": 4,
}
ARGUMENTS |= {"spatial_dims": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, r"of format version 1, got 2 in .*config\.json\. Update guided-attention"),
        ({"format_version": 0}, r"of format version 1, got 0 in .*config\.json\. Copy"),
        ({"format_version": "1"}, "of format version 1, got '1' in"),
        ({"format_version": ...}, "of format version 1, got None in"),
        ({"bilder": 1}, "made of the keys .*, got 'bilder'. Did you mean 'builder'?"),
        ({"builder": ...}, r"one with format_version, .*, got .* without builder\. Copy"),
        ({"sha256": "0"}, "with the settings that were saved, got .*damaged or was edited"),
        ({"builder": "dafs"}, r"settings that no network has\. .*got 'dafs'\. Did you mean 'daf'\?"),
        ({"builder": 7}, "`builder` must be the name of a builder, got a int"),
        ({"builder": ["daf"]}, "`builder` must be the name of a builder, got a list"),
        ({"arguments": 7}, "`arguments` must be a mapping .*, got a int"),
        ({"arguments": ARGUMENTS | {"chanels": 4}}, "got 'chanels'. Did you mean 'channels'?"),
        ({"arguments": {"channels": 4}}, "one with every argument, got .* without in_channels, num_classes"),
        ({"arguments": ARGUMENTS | {"channels": "4"}}, "`channels` must be an integer, got"),
        ({"arguments": ARGUMENTS | {"channels": 0}}, "`channels` must be above 0, got 0"),
        (
            {"arguments": ARGUMENTS | {"channels": [4]}},
            r"`arguments\['channels'\]` must be a plain value, got a list",
        ),
        ({"arguments": ARGUMENTS | {"num_classes": 2.5}}, "`num_classes` must be an integer, got 2.5"),
        ({"arguments": ARGUMENTS | {"spatial_dims": 4}}, "`spatial_dims` must be one of 2, 3, got 4"),
        ({"arguments": ARGUMENTS | {"encoder": "resnet19"}}, "got 'resnet19'"),
        (
            {"arguments": ARGUMENTS | {"encoder": None}},
            "`encoder` must be the name of a ResNet, got a NoneType",
        ),
        (
            {"arguments": ARGUMENTS | {"encoder_weights": "imagenet"}},
            "`encoder_weights` must be None in settings",
        ),
        (
            {"arguments": ARGUMENTS | {"channels": 5}},
            r"of another shape: .* \(5, 4, 1, 1\) instead of \(5, 5, 1, 1\)",
        ),
        ({"builder": "ms_pam"}, r"missing in the file: attention\.gates\.0\.1\.gate"),
        ({"weights": "../model.pt"}, r"one with model\.safetensors or model\.pt, got '\.\./model\.pt'"),
        ({"weights": None}, r"one with model\.safetensors or model\.pt, got 'None'|got None"),
        ({"weights_sha256": 7}, "with another checksum"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_settings_that_cannot_be_are_named(folder, changes, message):
    rewritten(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        from_pretrained(folder)


@pytest.mark.parametrize(
    "text", ["[1, 2]", "null", '"daf"', "[" * 100_000, "\ud800".encode("utf-8", "surrogatepass")]
)
def test_settings_that_are_no_mapping_are_named(folder, text):
    (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CheckpointError, match=r"one with a mapping, got|config\.json, which is damaged"):
        from_pretrained(folder)


def test_weights_that_do_not_fit_the_settings_leave_no_network(folder):
    other = ms_pam(**TINY)
    save_checkpoint(folder / "model.pt", {"model": other.state_dict()})
    digest = hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest()
    rewritten(folder, weights="model.pt", weights_sha256=digest)
    with pytest.raises(CheckpointError, match="missing in the file: attention"):
        from_pretrained(folder)
    torch.save([1, 2], folder / "model.pt")
    rewritten(folder, weights_sha256=hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest())
    with pytest.raises(CheckpointError, match=r"one with a state dict, got .*model\.pt with something else"):
        from_pretrained(folder)


# Wrong arguments


def test_settings_for_build_may_leave_out_arguments_and_name_what_is_unknown():
    model = build(ModelSettings("daf", {"encoder": "resnet18", "channels": 3}))
    assert model.num_classes == 5
    assert model.attention.channels == 3
    with pytest.raises(
        ArgumentError, match=r"`builder` must be made of .*, got 'msgga'\. Did you mean 'msga'\?"
    ):
        build(ModelSettings("msgga", {}))
    with pytest.raises(ArgumentError, match=r"got 'step'\. Did you mean 'steps'\?"):
        build(ModelSettings("msga", {"step": 3}))
    with pytest.raises(ArgumentError, match="`encoder_weights` must be None in settings, got 'imagenet'"):
        build(ModelSettings("daf", {"encoder_weights": "imagenet"}))


@pytest.mark.usefixtures("without_shape_checks")
def test_arguments_of_wrong_types_are_named(tmp_path):
    with pytest.raises(ArgumentTypeError, match="`settings` must be a ModelSettings, got a dict"):
        build({"builder": "daf"})
    with pytest.raises(ArgumentTypeError, match=r"`model` must be a torch\.nn\.Module, got a PosixPath"):
        save_pretrained(tmp_path, daf(**TINY))
    with pytest.raises(ArgumentTypeError, match="`folder` must be a path, got a NoneType"):
        save_pretrained(daf(**TINY), None)
    with pytest.raises(ArgumentTypeError, match="`overwrite` must be True or False, got a str"):
        save_pretrained(daf(**TINY), tmp_path / "saved", overwrite="yes")
    with pytest.raises(ArgumentTypeError, match="`folder` must be a path, got a int"):
        from_pretrained(7)
    with pytest.raises(
        ArgumentTypeError, match="`values` must be a mapping with builder and arguments, got a list"
    ):
        ModelSettings.from_dict([])
    with pytest.raises(ArgumentError, match="'builders'. Did you mean 'builder'?"):
        ModelSettings.from_dict({"builders": "daf", "arguments": {}})
    with pytest.raises(ArgumentError, match=r"got one without \['arguments'\]"):
        ModelSettings.from_dict({"builder": "daf"})
    with pytest.raises(
        ArgumentTypeError, match=r"`arguments\['channels'\]` must be a plain value, got a Tensor"
    ):
        ModelSettings("daf", {"channels": torch.tensor(4)})
