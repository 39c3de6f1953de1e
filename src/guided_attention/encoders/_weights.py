"""Weights of an encoder: read from a file or downloaded, adapted to the image's channels, loaded entry by entry."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from guided_attention._checkpoints import read_contents
from guided_attention._checks import require, require_type
from guided_attention._files import PathLike, sha256_of_file
from guided_attention.errors import CheckpointError, MissingFileError

__all__ = ["checked_file", "downloaded", "load", "read"]


def checked_file(encoder_weights: PathLike, named: str) -> Path:
    """Return the path of an existing file; `named` is the name that stands for weights to download."""
    wanted = f"None, {named!r} or the path of a state dict"
    require_type("encoder_weights", encoder_weights, (str, os.PathLike), wanted)
    path = Path(encoder_weights)
    if not path.is_file():
        message = f"`encoder_weights` must be {wanted}, but no file lies at {path}."
        raise MissingFileError(message, argument="encoder_weights", file=path)
    return path


def read(encoder_weights: PathLike) -> Mapping[str, Tensor]:
    """Return the state dict of a file."""
    path, wanted = checked_file(encoder_weights, "imagenet"), "a state dict, from names to tensors"
    state = read_contents(path, argument="encoder_weights", wanted=wanted)
    is_state = isinstance(state, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    )
    got, cure = f"{path} with something else", "Save `network.state_dict()` with torch.save."
    require(is_state, "encoder_weights", wanted, got, cure, error=CheckpointError, file=path)
    return cast("Mapping[str, Tensor]", state)


def downloaded(url: str) -> Mapping[str, Tensor]:
    """Return the state dict behind an address; torch.hub caches the file, and its hash is checked at every use."""
    _require_hash(Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2]))
    try:
        state: Mapping[str, Tensor] = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        cure = "Download the file by other means, and give its path."
        message = f"`encoder_weights` cannot be loaded from {url}: {error}. {cure}"
        raise CheckpointError(message, argument="encoder_weights") from error
    return state


def _require_hash(cached: Path) -> None:
    """Raise where a cached file is damaged: its name ends with the beginning of its hash, ``resnet18-f37072fd.pth``.

    torch.hub itself looks at the hash of a download, and never again.
    """
    if not cached.is_file():
        return
    good = sha256_of_file(cached).startswith(cached.stem.rpartition("-")[2])
    got, cure = f"{cached}, which was changed since", "Delete that file: it is downloaded again then."
    require(
        good, "encoder_weights", "the file that was downloaded", got, cure, error=CheckpointError, file=cached
    )


def load(encoder: nn.Module, state: Mapping[str, Tensor], source: PathLike) -> None:
    """Load a state dict without its classifier, with its stem adapted to the encoder's."""
    kept = {name: value for name, value in state.items() if not name.startswith("fc.")}
    wanted, stem = encoder.state_dict()["conv1.weight"], kept.get("conv1.weight")
    if stem is not None and stem.ndim == wanted.ndim and stem.shape[1] != wanted.shape[1]:
        kept["conv1.weight"] = _adapted_stem(stem, wanted.shape[1])
    try:
        encoder.load_state_dict(kept)
    except RuntimeError as error:
        message = f"`encoder_weights` must be those of this network, got {source}. {error}"
        raise CheckpointError(message, argument="encoder_weights", file=source) from error


def _adapted_stem(stem: Tensor, in_channels: int) -> Tensor:
    old = stem.shape[1]
    if in_channels == 1:
        return stem.sum(dim=1, keepdim=True)
    return stem[:, torch.arange(in_channels) % old] * (old / in_channels)
