"""What is measured computes the same thing on every side, and a real run leaves a whole file of results."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from benchmarks.rows import NOT_RUN, Spec
from tests.modules import drawn, opened

from benchmarks import ceilings, entries, measure, profiled, turns
from guided_attention import PAM

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("other", [entries.stored, entries.dahead])
def test_ways_of_position_attention_have_one_result_and_one_gradient(other):
    pam = opened(PAM(16)).double()
    x = drawn(2, 16, 5, 7, dtype=torch.float64).requires_grad_()
    wanted = [x, *pam.parameters()]
    results = []
    for way in (pam, partial(other, pam)):
        y = way(x)
        results.append((y, *torch.autograd.grad(y.square().sum(), wanted)))
    assert (results[0][0] - x).abs().max() > 0.1
    torch.testing.assert_close(results[1], results[0], atol=1e-10, rtol=1e-10)


def test_the_twin_of_the_network_has_our_loss_and_our_logits():
    model = entries.network("ours")
    twin = entries.Twin(model)
    assert sum(parameter.numel() for parameter in twin.parameters) == 103_556_063
    assert all(gate.item() == 0.5 for gate in entries.gates(model))
    image, target = entries.image_and_target(Spec("training", "ours", 64, batch=1), 64)
    with torch.no_grad():
        logits = model.eval()(image)
        torch.testing.assert_close(twin.predict(image), logits, atol=1e-4 * float(logits.abs().max()), rtol=0)
        ours = entries.loss_of(model.train(), image, target)
        torch.testing.assert_close(twin.loss(image, target), ours, atol=0, rtol=1e-4)


def test_every_network_is_built_with_the_same_weights_each_time(monkeypatch):
    monkeypatch.setattr(entries, "unet", lambda: torch.nn.Linear(3, 5))
    first, second = (entries.network("unet").weight for _ in range(2))
    assert torch.equal(first, second)


def test_a_network_that_cannot_be_built_says_why(monkeypatch):
    def missing():
        raise ModuleNotFoundError("install the extra peers")

    monkeypatch.setattr(entries, "unet", missing)
    with pytest.raises(entries.Unavailable, match="install the extra peers"):
        entries.network("unet")


def test_a_grouped_convolution_is_counted_as_what_it_is(monkeypatch):
    """1 x 1 convolution in 4 groups, from 8 to 12 channels on 5 x 7 positions, and an attention between two of them."""

    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(
                torch.nn.Conv2d(1, 64, 1), PAM(64), torch.nn.Conv2d(64, 12, 1, groups=4)
            )

        def outputs(self, x):
            return self.layers(x)

        forward = outputs

    monkeypatch.setattr(ceilings, "MSGA", lambda **_: Small())
    counts = ceilings.counts_of_training(Spec("counts of training", "ours", 6, batch=2))
    positions, weights = 36, 64 + 64 + 64 * 12 // 4 + 12
    convolutions = 3 * 2 * 2 * positions * (64 + 64 * 12 // 4)
    assert counts["flops"] == convolutions + 2 * 2 * positions**2 * (72 + 152)
    assert counts["exponentials"] == 2 * 2 * positions**2
    assert counts["bytes"] == 40 * weights + 2 * 4 * 2 * positions * (1 + 64)
    evaluated = ceilings.counts_of_evaluation(Spec("counts of evaluation", "ours", 6, batch=2))
    assert evaluated["flops"] == convolutions / 3 + 2 * 2 * positions**2 * 72
    assert evaluated["exponentials"] == 2 * positions**2
    assert evaluated["bytes"] == 4 * weights


@pytest.mark.parametrize("shapes", [False, True])
def test_the_profile_shows_the_operators_of_the_pass_alone(shapes):
    """The original's attention stores 7 x 7 positions squared, ours does not; the small pass has 8 x 8."""
    table = profiled.operators(Spec("attention", "twin", 7, part="forward", threads=1), shapes=shapes)
    softmax = [line.split() for line in table.splitlines() if "aten::_softmax" in line]
    assert [("[1, 49, 49]" in " ".join(line)) for line in softmax] == [shapes]
    assert "backward" not in table.lower()
    both = profiled.operators(Spec("attention", "ours", 7, threads=1), shapes=shapes)
    assert "_ByTilesBackward" in both
    assert "aten::_softmax" not in both


def test_the_profile_refuses_a_pass_that_there_is_not(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["profiled", "attention", "--who", "manet"])
    with pytest.raises(SystemExit):
        profiled.main()
    assert "--who: wanted one of ours, twin, dahead for attention, got 'manet'" in capsys.readouterr().err


@pytest.mark.peer
def test_a_real_run_from_the_command_line(tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "attention",
        "--sides",
        "8",
        "--repeats",
        "1",
        "--threads",
        "1",
    ]
    finished = subprocess.run(
        [*command, "--out", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert "over twin: seconds" in finished.stdout
    result = json.loads((tmp_path / "attention.json").read_text())
    (row,) = result["rows"]
    assert list(row["measured"]) == ["ours", "twin", "dahead"]
    for numbers in row["measured"].values():
        assert NOT_RUN not in numbers
        assert numbers["seconds"] > 0
        assert 0 <= numbers["over_start_mb"] < numbers["peak_mb"]
        assert len(numbers["runs"]) == 1
    assert result["versions"]["torch"] == torch.__version__
    assert [path.name for path in tmp_path.iterdir()] == ["attention.json"]


@pytest.mark.parametrize(
    "words", ["CUDA out of memory. Tried to allocate", "DefaultCPUAllocator: can't allocate memory"]
)
def test_what_does_not_fit_is_a_result_and_another_error_an_error(monkeypatch, words):
    def fails(_, message):
        raise RuntimeError(message)

    spec = Spec("attention", "ours", 8, threads=torch.get_num_threads())
    monkeypatch.setattr(measure, "_stay_within", lambda _: None)
    monkeypatch.setattr(measure, "one_pass", partial(fails, message=f"{words}\nmore"))
    assert measure.measured(spec) == {NOT_RUN: f"did not fit: {words}"}
    monkeypatch.setattr(measure, "one_pass", partial(fails, message="shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        measure.measured(spec)


def test_a_process_that_the_system_ends_did_not_fit_and_one_that_fails_stops_the_run(monkeypatch):
    spec = Spec("attention", "ours", 8)
    ends = partial(subprocess.CompletedProcess, args=[], stdout="")
    monkeypatch.setattr(turns.subprocess, "run", lambda *_, **__: ends(returncode=-9))
    assert turns.in_own_process(spec) == {NOT_RUN: "did not fit: the system ended the process"}
    monkeypatch.setattr(turns.subprocess, "run", lambda *_, **__: ends(returncode=1))
    with pytest.raises(subprocess.CalledProcessError):
        turns.in_own_process(spec)
