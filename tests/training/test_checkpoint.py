import random
import re
import signal
import subprocess
import sys
import time
import zipfile
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from guided_attention._checkpoints import ModelSettings
from guided_attention.errors import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    ExistingFileError,
    MissingFileError,
    MissingPackageError,
)
from guided_attention.training import load_checkpoint, load_weights, save_checkpoint

_ENDLESS = """
import sys, torch
from guided_attention.training import save_checkpoint
number = 0
while True:
    number += 1
    save_checkpoint(sys.argv[1], {"number": number, "weight": torch.full((300, 301), float(number))})
"""


def test_what_is_saved_is_read_back(tmp_path):
    contents = {"a": torch.arange(5), "b": [1, 2.5, None, True], "c": {"d": ("x", -1)}}
    save_checkpoint(tmp_path / "file.pt", contents)
    read = load_checkpoint(tmp_path / "file.pt")
    assert torch.equal(read.pop("a"), contents.pop("a"))
    assert read == contents


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"number": 1})

    def half(contents, where):
        del contents
        where.write(b"half a fi")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, {"number": 2})
    assert load_checkpoint(path) == {"number": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_the_new_file_takes_its_place_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"number": 1})
    seen = []

    def replace(source, target):
        seen.append((load_checkpoint(source), load_checkpoint(target)))
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"number": 2})
    assert seen == [({"number": 2}, {"number": 1})]
    assert load_checkpoint(path) == {"number": 1}


@pytest.mark.crash
def test_a_process_killed_while_it_saves_always_leaves_a_file_that_loads(tmp_path):
    path = tmp_path / "last.pt"
    with subprocess.Popen([sys.executable, "-c", _ENDLESS, str(path)]) as process:
        while not path.exists() and process.poll() is None:
            time.sleep(0.005)
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    read = load_checkpoint(path)
    assert torch.equal(read["weight"], torch.full((300, 301), float(read["number"])))


def test_a_file_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "evil.pt"

    torch.save({"model": Path("anything")}, path)
    with pytest.raises(
        ValueError, match=r"must be a checkpoint of plain tensors and numbers, got .*evil\.pt, .*weights_only"
    ):
        load_checkpoint(path)


@pytest.mark.parametrize("size", [0, 10, 500])
def test_a_truncated_file_is_named(tmp_path, size):
    path = tmp_path / "cut.pt"
    save_checkpoint(path, {"weight": torch.zeros(999)})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"got .*cut\.pt, which torch cannot read"):
        load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must be a checkpoint, got .*none\.pt, which is no file"):
        load_checkpoint(tmp_path / "none.pt")


def test_a_file_without_a_dictionary_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match=r"got .*list\.pt, which holds a list in place of a dictionary"):
        load_checkpoint(tmp_path / "list.pt")


@pytest.mark.parametrize("bare", [False, True])
def test_weights_come_from_a_checkpoint_or_a_bare_state_dict(tmp_path, bare):
    trained, fresh = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3)
    save_checkpoint(tmp_path / "w.pt", trained.state_dict() if bare else {"model": trained.state_dict()})
    load_weights(fresh, tmp_path / "w.pt")
    assert torch.equal(fresh.weight, trained.weight)
    assert torch.equal(fresh.bias, trained.bias)


def test_weights_of_another_network_are_refused_by_name_and_none_is_taken(tmp_path):
    there = nn.ModuleDict({"a": nn.Conv2d(1, 2, 3), "b": nn.Linear(3, 5)})
    here = nn.ModuleDict({"a": nn.Conv2d(1, 7, 3), "b": nn.Linear(3, 5), "c": nn.Linear(2, 3, bias=False)})
    before = {name: value.clone() for name, value in here.state_dict().items()}
    held = there.state_dict() | {"d.weight": torch.zeros(1)}
    save_checkpoint(tmp_path / "other.pt", {"model": held})
    message = (
        r"got .*other\.pt, where entries are missing in the file: c\.weight; "
        r"unknown to the network: d\.weight; of another shape: a\.bias \(2,\) instead of \(7,\), "
        r"a\.weight \(2, 1, 3, 3\) instead of \(7, 1, 3, 3\)\. Build"
    )
    with pytest.raises(ValueError, match=message):
        load_weights(here, tmp_path / "other.pt")
    for name, value in here.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_long_list_of_names_is_cut(tmp_path):
    save_checkpoint(tmp_path / "w.pt", {"model": {}})
    with pytest.raises(ValueError, match=r"missing in the file: .* and 3 more\."):
        load_weights(nn.ModuleList([nn.Linear(2, 3) for _ in range(4)]), tmp_path / "w.pt")


def equal(ours, theirs):
    """Say whether two nested containers hold the same, tensors bit for bit."""
    if isinstance(ours, torch.Tensor):
        same = isinstance(theirs, torch.Tensor) and ours.dtype == theirs.dtype and ours.shape == theirs.shape
        return same and torch.equal(ours.view(torch.uint8), theirs.view(torch.uint8))
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(equal(ours[name], theirs[name]) for name in ours)
    return ours == theirs


def small_checkpoint(path):
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(7, 5, generator=generator) for name in ("a.weight", "b.weight")}
    contents = {"model": state, "epoch": 3, "metadata": {"labels": {"1": "liver"}}}
    save_checkpoint(path, contents)
    return contents


def damaged(raw, number):
    """Return the file with one bit flipped, or cut short after every number above 300."""
    generator = random.Random(number)  # noqa: S311 - which bit, no secret
    if number >= 300:
        return raw[: generator.randrange(len(raw))]
    position = generator.randrange(8 * len(raw))
    changed = bytearray(raw)
    changed[position // 8] ^= 1 << position % 8
    return bytes(changed)


def test_every_damaged_file_is_refused_or_holds_the_same_bits(tmp_path):
    path = tmp_path / "last.pt"
    contents = small_checkpoint(path)
    raw, refused = path.read_bytes(), 0
    for number in range(360):
        path.write_bytes(damaged(raw, number))
        try:
            read = load_checkpoint(path)
        except CheckpointError as error:
            refused += error.file == path
        else:
            assert number < 300
            assert equal(read, contents), number
    assert refused > 200  # the others flip bits that pad or date the file


def test_damaged_files_of_torchs_old_format_raise_our_error_only(tmp_path):
    """The old format has no checksums: changed numbers cannot be found there."""
    path = tmp_path / "old.pth"
    torch.save({"weight": torch.ones(7, 5)}, path, _use_new_zipfile_serialization=False)
    raw, refused = path.read_bytes(), 0
    assert torch.equal(load_checkpoint(path)["weight"], torch.ones(7, 5))
    for number in range(360):
        path.write_bytes(damaged(raw, number))
        try:
            load_checkpoint(path)
        except CheckpointError:
            refused += 1
    assert refused > 100


def test_a_damaged_file_names_what_to_use_instead(tmp_path):
    path = tmp_path / "last.pt"
    small_checkpoint(path)
    raw = bytearray(path.read_bytes())
    position = raw.index(torch.randn(7, 5, generator=torch.Generator().manual_seed(0)).numpy().tobytes())
    raw[position + 3] ^= 1
    path.write_bytes(raw)
    message = (
        r"got .*last\.pt, which torch cannot read: it is damaged or cut short \(bad member '.*/data/0'\)\. "
    )
    with pytest.raises(CheckpointError, match=message + "Copy the file again"):
        load_checkpoint(path)
    (tmp_path / "best.pt").write_bytes(b"")
    (tmp_path / ".unfinished-7.last.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=message + r"Use best\.pt beside it, or copy"):
        load_checkpoint(path)


def test_a_compressed_file_is_refused_before_anything_is_unpacked(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))
    with pytest.raises(CheckpointError, match="bad member 'archive/data.pkl'"):
        load_checkpoint(path)


def test_a_bit_that_turns_a_member_into_a_folder_is_found(tmp_path):
    """Checksums do not cover it, and torch then returns whatever lies in memory."""
    path = tmp_path / "last.pt"
    small_checkpoint(path)
    raw = bytearray(path.read_bytes())
    entry = [found.start() for found in re.finditer(rb"PK\x01\x02", raw)][4]  # of the first tensor
    raw[entry + 38] ^= 0x10
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match="bad member '.*/data/0'"):
        load_checkpoint(path)


def test_checksums_are_written_even_where_torch_would_write_none(tmp_path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(compute_crc32=False)
    try:
        contents = small_checkpoint(tmp_path / "last.pt")
        assert torch.serialization.get_crc32_options() is False
    finally:
        torch.serialization.set_crc32_options(before)
    assert equal(load_checkpoint(tmp_path / "last.pt"), contents)


def test_safetensors_files_are_read_and_damaged_ones_refused(tmp_path):
    path, weight = tmp_path / "weights.safetensors", torch.arange(35.0).reshape(7, 5)
    safetensors.torch.save_file({"weight": weight, "bias": torch.arange(7.0)}, path)
    assert torch.equal(load_checkpoint(path)["weight"], weight)
    linear = nn.Linear(5, 7)
    load_weights(linear, path)
    assert torch.equal(linear.weight, weight)
    raw = path.read_bytes()
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        with pytest.raises(CheckpointError, match=r"got .*weights\.safetensors, which torch cannot read"):
            load_checkpoint(path)


def test_safetensors_names_its_extra_where_it_is_missing(tmp_path, monkeypatch):
    (tmp_path / "weights.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'guided-attention\[safetensors\]'"):
        load_checkpoint(tmp_path / "weights.safetensors")


# Prefixes of wrappers


class Nested(nn.Module):
    """A network with a part of its own."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(3, 5), nn.Linear(5, 2)


compiled = partial(torch.compile, backend="eager")


def wrapped(how, network):
    if how == "compiled part":
        network.encoder = compiled(network.encoder)
    wrappers = {
        "data parallel": [nn.DataParallel],
        "compiled": [compiled],
        "both": [compiled, nn.DataParallel],
    }
    for wrap in wrappers.get(how, []):
        network = wrap(network)
    return network


_WRAPPINGS = ["plain", "data parallel", "compiled", "both", "compiled part"]


@pytest.mark.parametrize("saved", _WRAPPINGS)
@pytest.mark.parametrize("loaded", _WRAPPINGS)
def test_prefixes_of_wrappers_are_seen_through_both_ways(tmp_path, saved, loaded):
    source, target = wrapped(saved, Nested()), wrapped(loaded, Nested())
    save_checkpoint(tmp_path / "w.pt", {"model": source.state_dict()})
    load_weights(target, tmp_path / "w.pt")
    for ours, theirs in zip(target.parameters(), source.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_part_that_is_called_module_keeps_its_name(tmp_path):
    source, target = (nn.ModuleDict({"module": nn.Linear(3, 5), "head": nn.Linear(5, 2)}) for _ in range(2))
    save_checkpoint(tmp_path / "w.pt", source.state_dict())
    load_weights(target, tmp_path / "w.pt")
    assert torch.equal(target["module"].weight, source["module"].weight)
    twice = {
        f"{prefix}{name}": value
        for name, value in Nested().state_dict().items()
        for prefix in ("", "module.")
    }
    save_checkpoint(tmp_path / "twice.pt", twice)
    with pytest.raises(CheckpointError, match=r"unknown to the network: module\.encoder\.bias, module"):
        load_weights(Nested(), tmp_path / "twice.pt")


# All or nothing


_ODD = {
    "a list": ([0.0] * 10, r"head\.weight a list instead of floating values"),
    "whole numbers": (
        torch.zeros(2, 5, dtype=torch.long),
        "head.weight integer values instead of floating values",
    ),
    "truth values": (torch.zeros(2, 5, dtype=torch.bool), "head.weight boolean values instead of floating"),
    "complex": (torch.zeros(2, 5, dtype=torch.complex64), "head.weight complex values instead of floating"),
    "sparse": (torch.zeros(2, 5).to_sparse(), r"head\.weight a tensor of layout torch\.sparse_coo instead"),
    "another shape": (torch.zeros(5, 2), r"of another shape: head\.weight \(5, 2\) instead of \(2, 5\)"),
    "a single value": (torch.zeros(()), r"of another shape: head\.weight \(\) instead of \(2, 5\)"),
    "nothing": (None, "missing in the file: head.weight"),
}


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants:UserWarning")  # of torch 2.14
@pytest.mark.parametrize("odd", _ODD)
def test_one_odd_entry_leaves_the_network_untouched(tmp_path, odd):
    value, message = _ODD[odd]
    network, state = Nested(), Nested().state_dict()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = {name: entry for name, entry in state.items() if name != "head.weight"}
    save_checkpoint(tmp_path / "odd.pt", {"model": state | ({} if value is None else {"head.weight": value})})
    with pytest.raises(CheckpointError, match=message):
        load_weights(network, tmp_path / "odd.pt")
    assert equal(dict(network.state_dict()), before)


def test_a_network_without_memory_is_named(tmp_path):
    save_checkpoint(tmp_path / "w.pt", Nested().state_dict())
    with torch.device("meta"):
        network = Nested()
    with pytest.raises(
        ArgumentError, match="`model` must be a network with weights in memory, got one on the meta"
    ):
        load_weights(network, tmp_path / "w.pt")


def test_half_and_double_precision_are_taken_as_the_network_has_them(tmp_path):
    network, state = Nested(), Nested().double().state_dict()
    save_checkpoint(tmp_path / "w.pt", state)
    load_weights(network, tmp_path / "w.pt")
    assert torch.equal(network.head.weight, state["head.weight"].float())


# The settings that the file tells of


def with_settings(**arguments):
    network = Nested()
    network.settings = ModelSettings("msga", arguments)
    return network


def test_a_network_of_other_settings_is_refused_though_every_entry_fits(tmp_path):
    trained, fresh = with_settings(energy="paper", steps=2), with_settings(energy="danet", steps=2)
    metadata = {"metadata": {"model": trained.settings.to_dict()}}
    save_checkpoint(tmp_path / "w.pt", {"model": trained.state_dict(), **metadata})
    before = fresh.head.weight.clone()
    message = r"with these settings, got .*w\.pt with energy 'paper' instead of 'danet'\. Build"
    for network in (fresh, nn.DataParallel(fresh), compiled(fresh)):
        with pytest.raises(CheckpointError, match=message):
            load_weights(network, tmp_path / "w.pt")
    assert torch.equal(fresh.head.weight, before)
    load_weights(with_settings(energy="paper", steps=2), tmp_path / "w.pt")


@pytest.mark.parametrize("metadata", [{}, {"model": "my network"}, {"model": {"builder": "mine"}}, None])
def test_metadata_of_other_kinds_is_not_compared(tmp_path, metadata):
    network = with_settings(energy="danet")
    save_checkpoint(tmp_path / "w.pt", {"model": network.state_dict(), "metadata": metadata})
    load_weights(network, tmp_path / "w.pt")


# Wrong arguments


@pytest.mark.usefixtures("without_shape_checks")
def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(ArgumentTypeError, match="`path` must be a path, got a NoneType"):
        load_checkpoint(None)
    with pytest.raises(ArgumentTypeError, match="`path` must be a path, got a bytes"):
        save_checkpoint(b"last.pt", {})
    with pytest.raises(
        ArgumentTypeError, match="`contents` must be a mapping of names to values, got a Linear"
    ):
        save_checkpoint(tmp_path / "w.pt", nn.Linear(3, 5))
    with pytest.raises(ArgumentTypeError, match=r"`model` must be a torch\.nn\.Module, got a PosixPath"):
        load_weights(tmp_path / "w.pt", nn.Linear(3, 5))
    with pytest.raises(MissingFileError, match="`path` must be in an existing folder"):
        save_checkpoint(tmp_path / "none" / "w.pt", {})
    with pytest.raises(ExistingFileError, match="`path` must be a file, got the folder"):
        save_checkpoint(tmp_path, {})
    for name in (".", "x" * 300, "nul\0l"):
        with pytest.raises(MissingFileError, match="which is no file"):
            load_checkpoint(tmp_path / name)


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    small_checkpoint(tmp_path / "last.pt")

    def refuse(*_arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(
        CheckpointError, match=r"last\.pt, which cannot be opened: Permission denied\. Check its"
    ):
        load_checkpoint(tmp_path / "last.pt")
