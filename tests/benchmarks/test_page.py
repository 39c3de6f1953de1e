"""Pictures and page are made of the files of results alone."""

import json

import pytest
from benchmarks.page import BEGIN, END, tables, update
from benchmarks.plots import draw, lines_of
from benchmarks.rows import NOT_RUN, Choices, rows_of
from benchmarks.turns import run_benchmark

HEAD = {
    "what": "a training step",
    "device": "cpu",
    "threads": 2,
    "machine": {"cpu": "Slow", "cores": 2, "features": ["avx2"], "memory_gb": 25.3},
    "versions": {"torch": "2.13.0", "python": "3.11.7"},
    "sources": "abc",
    "rows": [],
}


def run(spec):
    if spec.who == "manet":
        return {NOT_RUN: "no | module\nhere"}
    if spec.task == "learning":
        return {
            "seconds": 2.0 if spec.precision == "bf16" else 4.0,
            "loss": 0.51 if spec.precision == "bf16" else 0.5,
        }
    if spec.task == "ceilings":
        return {"fp32_flops_a_second": 1e12, "bytes_a_second": 1e12, "exponentials_a_second": 1e12}
    if spec.task.startswith("counts"):
        return {"flops": 1e12, "exponentials": 1e12, "bytes": 1e12}
    seconds = {"msga": 1.0, "ours": 5.0}.get(spec.who, 4.0)
    return {"seconds": seconds * spec.side**2 / 256**2, "peak_mb": 5000.0, "over_start_mb": 1234.0}


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    choices = Choices(sides=[256, 512], precisions=["fp32"], data="/secret")
    for name in ("networks", "limits", "precision"):
        path = folder / f"{name}.json"
        run_benchmark(rows_of(name, choices), {**HEAD, "name": name}, path, repeats=1, run=run)
    (folder / "other.json").write_text(json.dumps({"networks": {}}))
    return folder


def test_the_page_has_every_number_between_its_marks_and_nothing_else_changes(results, tmp_path):
    page = tmp_path / "docs" / "benchmarks.md"
    page.parent.mkdir()
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    for _ in range(2):
        update(results, page.parent)
    text = page.read_text()
    assert text.startswith(f"before\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nafter\n")
    assert "old" not in text
    assert text.count("## networks") == 1
    assert "| training | 256 | 1 | fp32 | MSGA, ours | 1 | 1,234 | 5,000 |  |  |  |" in text
    assert (
        "| training | 512 | 1 | fp32 | AttentionUnet of MONAI | 16 | 1,234 | 5,000 | 0.25 | 1 | 1 |" in text
    )
    assert "| MAnet of smp | not measured: no / module here |" in text
    assert "| training | BasicUNet of MONAI | 1 | fp32 | 256, 512 | 1.0 | 0.0 |" in text
    assert "| training | both | 512 | 1 | fp32 | 20 | 2 | 10 % | 1 | 1 | 1 |" in text
    assert "is 0.51 in bf16 and 0.5 in fp32, +2.00 %; bf16 takes 0.50 of the time" in text
    assert "Slow, 2 cores (avx2), 25.3 GB of memory, threads: 2; torch 2.13.0" in text
    assert "has run on a GPU" in text
    assert "secret" not in text


def test_a_page_without_marks_is_left_alone(results, tmp_path):
    page = tmp_path / "benchmarks.md"
    page.write_text(f"before {BEGIN} after")
    with pytest.raises(ValueError, match="must have the lines"):
        update(results, tmp_path)
    assert page.read_text() == f"before {BEGIN} after"


def test_of_no_results_there_is_a_sentence(tmp_path):
    text = tables(tmp_path, tmp_path)
    assert text == "Nothing on this page has run on a GPU.\n\nNothing has been measured yet.\n"


def test_results_of_a_gpu_take_the_sentence_away(results, tmp_path):
    on_gpu = {**HEAD, "name": "training", "device": "cuda", "machine": {**HEAD["machine"], "gpu": "Fast"}}
    run_benchmark([], on_gpu, results / "training-cuda.json", repeats=1, run=run)
    rows = rows_of("training", Choices(device="cuda", sides=[256], batches=[1], precisions=["bf16"]))
    run_benchmark(rows, on_gpu, results / "training-cuda.json", repeats=1, run=run)
    text = tables(results, tmp_path)
    assert "has run on a GPU" not in text
    assert "Fast, 25.3 GB of memory" in text


def test_lines_join_points_of_one_entry_batch_and_precision(results):
    rows = json.loads((results / "networks.json").read_text())["rows"]
    lines = lines_of(rows, "training")
    assert lines["MSGA, ours, batch 1, fp32"]["seconds"] == [(256, 1.0), (512, 4.0)]
    assert not any("MAnet" in title for title in lines)
    rows[-1]["batch"] = rows[-2]["batch"] = 7
    assert lines_of(rows, "training") == {}


def test_what_was_measured_at_two_sides_is_drawn_and_the_same_each_time(results, tmp_path):
    pytest.importorskip("matplotlib")
    first = draw(results, tmp_path / "images")
    assert [path.name for path in first] == [
        "benchmark-networks.svg"
    ]  # elsewhere each side has another batch
    before = first[0].read_bytes()
    assert b"<svg" in before
    draw(results, tmp_path / "images")
    assert first[0].read_bytes() == before
    assert "![networks: time and memory against the side](images/benchmark-networks.svg)" in tables(
        results, tmp_path / "images"
    )
