"""Checkpoints: written whole or not at all, read without running any code that a file may carry."""

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from guided_attention._files import replacing

__all__ = ["load_checkpoint", "load_weights", "save_checkpoint"]

_NAMES_SHOWN = 5


def save_checkpoint(path: Path | str, contents: Mapping[str, object]) -> None:
    """Write a checkpoint so that a crash at any moment leaves either the old file or the new one.

    The contents are written under a temporary name in the same folder, which then takes the place of `path`
    in one step. An existing file is replaced.

    Args:
        path: The file to write; its folder must exist.
        contents: Tensors, numbers, strings, and lists, tuples and dictionaries of these. Anything else is
            written too, but `load_checkpoint` will refuse to read it.

    Example:
        >>> import tempfile, torch
        >>> path = Path(tempfile.mkdtemp()) / "last.pt"
        >>> save_checkpoint(path, {"epoch": 3, "weight": torch.tensor([1.0, 2.0])})
        >>> load_checkpoint(path)["epoch"]
        3
    """
    with replacing(Path(path)) as temporary:
        torch.save(dict(contents), temporary)


def load_checkpoint(path: Path | str) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, refusing any file that would run code.

    Args:
        path: A file that `save_checkpoint` wrote, or any file of plain tensors and numbers that torch can
            read with ``weights_only=True``.

    Returns:
        The contents by name. `Trainer` writes ``best.pt`` with ``model``, ``epoch`` and ``score``, and
        ``last.pt`` with ``model``, ``optimizer``, ``averaged``, ``random`` and ``run``.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: The file holds no dictionary.
        ValueError: The file is damaged, or holds more than plain tensors and numbers.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "best.pt"
        >>> save_checkpoint(path, {"score": 0.5})
        >>> load_checkpoint(path)
        {'score': 0.5}
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"`path` must be a checkpoint, got {path}, which is no file. Check its name.")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        message = (
            f"`path` must be a checkpoint of plain tensors and numbers, got {path}, which torch cannot read "
            "with weights_only=True. The file is damaged or comes from elsewhere: save its state_dict alone."
        )
        raise ValueError(message) from error
    if not isinstance(contents, dict):
        kind = type(contents).__name__
        raise TypeError(f"`path` must be a checkpoint with a dictionary, got {path}, which holds a {kind}.")
    return contents


def load_weights(model: nn.Module, path: Path | str) -> None:
    """Put the weights of a checkpoint into a network, all of them or none.

    Args:
        model: The network, built as it was for the training; changed in place.
        path: ``best.pt`` or ``last.pt`` of a run (their entry ``model`` is taken), or a file with a bare
            state dict.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is unreadable, or its weights are not those of this network: the message names
            those missing in the file, those that the network does not know, and those of another shape. The
            network then keeps the weights it had.

    Example:
        >>> import tempfile
        >>> from torch import nn
        >>> path = Path(tempfile.mkdtemp()) / "best.pt"
        >>> trained, fresh = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3)
        >>> save_checkpoint(path, {"model": trained.state_dict(), "epoch": 1, "score": 0.5})
        >>> load_weights(fresh, path)
        >>> bool((fresh.weight == trained.weight).all())
        True
    """
    contents = load_checkpoint(path)
    held = contents.get("model", contents)
    weights: dict[str, Any] = held if isinstance(held, dict) else contents
    _require_same_entries(model.state_dict(), weights, path)
    model.load_state_dict(weights)


def _require_same_entries(wanted: Mapping[str, Any], got: Mapping[str, Any], path: Path | str) -> None:
    problems = [
        _listed("missing in the file", (name for name in wanted if name not in got)),
        _listed("unknown to the network", (name for name in got if name not in wanted)),
        _listed("of another shape", _misshapen(wanted, got)),
    ]
    if any(problems):
        found = "; ".join(problem for problem in problems if problem)
        raise ValueError(
            f"`path` must be a checkpoint of this very network, got {path}, where entries are {found}. "
            "Build the network with the settings it was trained with."
        )


def _misshapen(wanted: Mapping[str, Any], got: Mapping[str, Any]) -> Iterable[str]:
    for name in wanted.keys() & got.keys():
        ours, theirs = wanted[name], got[name]
        if isinstance(ours, Tensor) and isinstance(theirs, Tensor) and ours.shape != theirs.shape:
            yield f"{name} {tuple(theirs.shape)} instead of {tuple(ours.shape)}"


def _listed(what: str, names: Iterable[str]) -> str:
    found = sorted(names)
    more = f" and {len(found) - _NAMES_SHOWN} more" if len(found) > _NAMES_SHOWN else ""
    return f"{what}: {', '.join(found[:_NAMES_SHOWN])}{more}" if found else ""
