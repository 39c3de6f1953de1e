"""``run.json``: what a run was made with. Versions, machine and hashes; no names of patients."""

import json
import math
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from guided_attention._checks import cut_list, require
from guided_attention._files import json_mapping, replacing, sha256_of_json
from guided_attention.errors import CheckpointError

__all__ = ["PROVENANCE", "amend_session", "changed_metadata", "record_session"]

PROVENANCE = "run.json"
_LEARNED = ("preparation", "labels")
"""Metadata that the weights depend on: a resumed run has no others."""
_NEAR = 1e-6
"""Share by which measured numbers may differ: another processor or NumPy rounds in another way."""


def record_session(
    folder: Path,
    about: Mapping[str, object],
    *,
    device: torch.device,
    epoch: int,
    changes: Sequence[str],
    metadata: object,
) -> None:
    """Add a session, the time from a start or resume on, to ``run.json``.

    Args:
        folder: The run folder.
        about: Settings of the run and what its caller adds; the newest ones stand in the file.
        device: Training device.
        epoch: Epochs that were complete.
        changes: Settings that differ from those before.
        metadata: What is written into the checkpoints; its hash is noted.
    """
    path = folder / PROVENANCE
    session = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "epochs_before": epoch,
        "changes": list(changes),
        "command": _command(sys.argv),
        "versions": _versions(),
        "machine": _machine(device),
    }
    known = json_mapping(path).get("sessions")
    sessions = [*(known if isinstance(known, list) else ()), session]
    digest = None if metadata is None else _hash(metadata)
    _write(path, {"version": 1, **about, "metadata_sha256": digest, "sessions": sessions})


def amend_session(folder: Path, values: Mapping[str, object]) -> None:
    """Add to the newest session what has come up since; a file that is damaged or gone stays so."""
    record = json_mapping(folder / PROVENANCE)
    sessions = record.get("sessions")
    if isinstance(sessions, list) and sessions and isinstance(sessions[-1], dict):
        sessions[-1].update(values)
        _write(folder / PROVENANCE, record)


def changed_metadata(stored: object, given: object, path: Path) -> list[str]:
    """Return which metadata have changed since a run was stored.

    Args:
        stored: Metadata of the run, None if it has none.
        given: Those that it is resumed with.
        path: The file of the run, for the message.

    Raises:
        CheckpointError: Scans are prepared in another way than those that the weights have seen, or labels have another
            meaning.
    """
    before, now = (one if isinstance(one, Mapping) else {} for one in (stored, given))
    odd = [
        key for name in _LEARNED if name in before for key in _differing(before[name], now.get(name), name)
    ]
    wanted, cure = (
        f"that of the run in {path}",
        "Pass the scans and settings of the run, or begin another run.",
    )
    require(not odd, "metadata", wanted, f"another {cut_list(odd)}", cure, error=CheckpointError, file=path)
    return [f"{key}: it has another value" for key in _differing(before, now, "metadata")]


def _differing(before: object, now: object, name: str) -> Iterator[str]:
    """Yield where plain values differ, by their keys."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in {**before, **now}:
            yield from _differing(before.get(key), now.get(key), f"{name}.{key}")
    elif not _alike(before, now):
        yield name


def _alike(before: object, now: object) -> bool:
    """Return whether plain values are the same but for the rounding of numbers; whole numbers are exact."""
    before, now = (one.tolist() if isinstance(one, Tensor) else one for one in (before, now))
    if isinstance(before, (list, tuple)) and isinstance(now, (list, tuple)):
        return len(before) == len(now) and all(map(_alike, before, now))
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return not list(_differing(before, now, ""))
    if isinstance(before, float) and isinstance(now, float) and math.isfinite(before):
        return math.isclose(before, now, rel_tol=_NEAR, abs_tol=1e-12)
    return _hash(before) == _hash(now)


def _hash(values: object) -> str:
    return sha256_of_json(values, _plain)


def _write(path: Path, record: Mapping[str, object]) -> None:
    with replacing(path) as draft:
        draft.write_text(
            json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8"
        )


def _command(arguments: Sequence[str]) -> list[str]:
    """Return the command line without its paths: folders are called after patients and users."""
    program, *others = arguments or ["python"]
    return [Path(program).name, *(_without_path(text) for text in others)]


def _without_path(text: str) -> str:
    option, equals, value = text.partition("=")
    if equals and option.startswith("-"):
        return f"{option}={_without_path(value)}"
    try:
        is_path = os.sep in text or Path(text).exists()
    except (OSError, ValueError):
        is_path = True
    return "<path>" if is_path else text


def _versions() -> dict[str, str]:
    return {
        "guided_attention": str(import_module("guided_attention").__version__),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _machine(device: torch.device) -> dict[str, object]:
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
    }


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, Tensor) else str(value)
