import io
import sys

import pytest

from guided_attention.training.log import read_log, write_log
from guided_attention.training.progress import Progress, Status, format_duration, format_status


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def _status(batch, share, **more):
    return Status(
        epoch=2,
        batch=batch,
        share=share,
        learning_rate=0.00125,
        losses={"loss": 0.5, "loss_guidance": 0.25},
        **more,
    )


def test_a_line_tells_epoch_batch_losses_rate_and_time_left():
    line = format_status(_status(7, 0.5), epochs=3, batches=11, seconds_left=61.0)
    assert line == "epoch 2/3  batch 7/11  loss 0.5000  loss_guidance 0.2500  lr 0.00125  ETA 1 min 01 s"


def test_the_line_of_an_epoch_tells_the_validation():
    line = format_status(
        _status(11, 0.5, score=0.75, best_score=0.875), epochs=3, batches=11, seconds_left=0.0
    )
    assert "  validation 0.7500 (best 0.8750)  lr" in line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.0, "59 min 59 s"), (3600.0, "1 h 00 min")],
)
def test_times_are_written_in_two_units(seconds, text):
    assert format_duration(seconds) == text


def test_plain_lines_come_once_an_epoch_and_every_half_minute_within(clock):
    stream = io.StringIO()
    progress = Progress(epochs=3, batches=11, stream=stream, clock=clock)
    for batch in range(1, 12):
        clock.pass_minutes(0.2)
        progress.batch(_status(batch, batch / 33))
    progress.epoch(_status(11, 11 / 33))
    progress.close()
    lines = stream.getvalue().splitlines()
    assert [line.split("  ")[1] for line in lines] == [
        "batch 3/11",
        "batch 6/11",
        "batch 9/11",
        "batch 11/11",
    ]
    # A third of the run took 2.2 minutes, so two thirds take 4.4.
    assert lines[-1].endswith("ETA 4 min 24 s")


def test_the_time_left_of_a_resumed_run_counts_from_the_resume(clock):
    stream = io.StringIO()
    progress = Progress(epochs=4, batches=1, stream=stream, clock=clock)
    progress.count_from(0.5)
    clock.pass_minutes(3.0)
    progress.epoch(_status(1, 0.75))
    assert stream.getvalue().endswith("ETA 3 min 00 s\n")


def test_quiet_says_nothing():
    stream = _Terminal()
    progress = Progress(epochs=3, batches=11, quiet=True, stream=stream)
    progress.batch(_status(1, 0.1))
    progress.epoch(_status(11, 0.3))
    progress.close()
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar_where_tqdm_is_installed():
    pytest.importorskip("tqdm")
    stream = _Terminal()
    progress = Progress(epochs=2, batches=1, stream=stream)
    progress.batch(_status(1, 0.5))
    progress.epoch(_status(1, 0.5))
    progress.close()
    assert "50%" in stream.getvalue()
    assert "epoch 2/2  batch 1/1  loss 0.5000" in stream.getvalue()


def test_a_terminal_gets_lines_where_tqdm_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    stream = _Terminal()
    progress = Progress(epochs=2, batches=1, stream=stream)
    progress.batch(_status(1, 0.5))
    progress.epoch(_status(1, 0.5))
    progress.close()
    assert stream.getvalue().count("\n") == 1
    assert "%" not in stream.getvalue()


def test_the_log_reads_back_to_the_last_digit_with_empty_cells_left_out(tmp_path):
    rows = [{"epoch": 1.0, "loss": 1 / 3}, {"epoch": 2.0, "loss": 1e-17, "score": float("inf")}]
    write_log(tmp_path / "log.csv", rows)
    assert (tmp_path / "log.csv").read_text().splitlines()[0] == "epoch,loss,score"
    assert read_log(tmp_path / "log.csv") == rows


def test_a_missing_log_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must be the log of a run, got .*log\.csv"):
        read_log(tmp_path / "log.csv")
