import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

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
        Path(where).write_bytes(b"half a fi")
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
    with pytest.raises(TypeError, match=r"with a dictionary, got .*list\.pt, which holds a list"):
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
