"""``run.json``: what a run was made with. Versions, machine and hashes; no names of patients."""

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from guided_attention._files import json_mapping, replacing, sha256_of_json

__all__ = ["PROVENANCE", "amend_session", "record_session"]

PROVENANCE = "run.json"


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
    digest = None if metadata is None else sha256_of_json(metadata, _plain)
    _write(path, {"version": 1, **about, "metadata_sha256": digest, "sessions": sessions})


def amend_session(folder: Path, values: Mapping[str, object]) -> None:
    """Add to the newest session what has come up since; a file that is damaged or gone stays so."""
    record = json_mapping(folder / PROVENANCE)
    sessions = record.get("sessions")
    if isinstance(sessions, list) and sessions and isinstance(sessions[-1], dict):
        sessions[-1].update(values)
        _write(folder / PROVENANCE, record)


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
