"""The files of a saved predictor: its networks, and what it knows beside them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from guided_attention._checkpoints import (
    ModelSettings,
    load_checkpoint,
    load_weights,
    put_weights,
    require_same_settings,
)
from guided_attention._checks import counted, cut_list, require, require_path
from guided_attention._files import (
    PathLike,
    json_mapping,
    replacing,
    sha256_of_file,
    sha256_of_json,
    whole_folder,
)
from guided_attention.errors import CheckpointError, GuidedAttentionError, MissingFileError
from guided_attention.inference.knowledge import Knowledge
from guided_attention.inference.members import members_of
from guided_attention.models import build, from_pretrained, save_pretrained

__all__ = [
    "ENSEMBLE",
    "FOLDS_FILE",
    "MEMBER",
    "PREDICTOR_FILE",
    "SOURCES",
    "changed_folds",
    "load_knowledge",
    "save_knowledge",
]

PREDICTOR_FILE = "predictor.json"
FOLDS_FILE, ENSEMBLE = "folds.json", "ensemble"
"""What a run of folds holds: which cases each fold holds out, and the folder of the ensemble of all of them."""
SOURCES = "folds.sha256.json"
"""In the folder of an ensemble: the hash of the weights of each fold that it is made of."""
_BEST = "best.pt"
_CONFIG, _WEIGHTS = "config.json", ("model.safetensors", "model.pt")
_CHECKSUMS = ("sha256", "config_sha256")
MEMBER = "member-{}"
"""Folder of each network of an ensemble, counted from 0; a single network lies in the folder itself."""


def save_knowledge(folder: PathLike, members: nn.ModuleList, knowledge: Knowledge) -> None:
    """Write each network as `save_pretrained` does, and the rest beside it, completely or not at all."""

    def fill(draft: Path) -> None:
        homes = _homes(draft, len(members))
        for member, home in zip(members, homes, strict=True):
            save_pretrained(member, home)
        checksums = [sha256_of_file(home / _CONFIG) for home in homes]
        config = checksums[0] if len(checksums) == 1 else checksums
        values = knowledge.to_dict(members) | {"config_sha256": config}
        text = json.dumps(values | {"sha256": sha256_of_json(values)}, indent=2) + "\n"
        with replacing(draft / PREDICTOR_FILE) as path:
            path.write_text(text, encoding="utf-8")

    whole_folder(require_path("folder", folder), fill)


def _homes(root: Path, count: int) -> list[Path]:
    """Return the folder of each network."""
    return [root] if count == 1 else [root / MEMBER.format(number) for number in range(count)]


def load_knowledge(
    path: PathLike, model: nn.Module | Sequence[nn.Module] | None
) -> tuple[nn.ModuleList, Knowledge]:
    """Return the networks, with their weights, and the rest."""
    root = require_path("path", path)
    given = None if model is None else members_of(model)
    if not _exists(root):
        message = f"`path` must be an existing file or folder, got {path}."
        raise MissingFileError(message, argument="path", file=path)
    if (root / FOLDS_FILE).is_file():
        root = _ensemble_of(root)
    if (root / PREDICTOR_FILE).is_file():
        return _from_folder(root, given)
    checkpoint = root / _BEST if root.is_dir() else root
    if not checkpoint.is_file():
        others = [other.name for other in sorted(root.glob("*.pt"))] if root.is_dir() else []
        raise MissingFileError(
            f"`path` must be a folder that `Predictor.save` wrote, a run folder or a checkpoint, "
            f"got {path}, which holds neither {PREDICTOR_FILE} nor {_BEST}."
            + (f" Name one of its files: {cut_list(others)}." if others else ""),
            argument="path",
            file=path,
        )
    return _from_checkpoint(checkpoint, given)


def _ensemble_of(run: Path) -> Path:
    """Return the folder of the ensemble of a run of folds; raise where the run is not finalized."""
    if not (run / ENSEMBLE / PREDICTOR_FILE).is_file():
        message = f"`path` must be a finalized run, got {run}, whose folds are not joined yet."
        cure = f"Call `finalize(run)`, or name one of the folds, such as {run / 'fold-0'}."
        raise MissingFileError(f"{message} {cure}", argument="path", file=run)
    changed = changed_folds(run)
    wanted = "a run whose folds are as its ensemble was made of them"
    got = f"{run}, where the weights of {cut_list(changed)} have changed since or are gone"
    cure = f"Train what is missing and call `finalize(run)`, or name {run / ENSEMBLE} to use it as it is."
    require(not changed, "path", wanted, got, cure, error=CheckpointError, file=run)
    return run / ENSEMBLE


def changed_folds(run: Path) -> list[str]:
    """Return the folds of a run whose weights are not those that its ensemble was made of; the first have no hashes."""
    known = json_mapping(run / ENSEMBLE / SOURCES)
    files = {name: run / name / _BEST for name in known}
    return [name for name, file in files.items() if not file.is_file() or sha256_of_file(file) != known[name]]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long for the file system
        return False


def _from_folder(root: Path, given: nn.ModuleList | None) -> tuple[nn.ModuleList, Knowledge]:
    file = root / PREDICTOR_FILE
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        message = (
            f"`{file}` must be the JSON that `Predictor.save` wrote, got a damaged file ({error}). "
            "Copy the folder again."
        )
        raise CheckpointError(message, file=file) from error
    except OSError as error:
        message = f"`path` must be readable, got {file}: {error.strerror}. Check its permissions."
        raise CheckpointError(message, argument="path", file=file) from error
    checksums = {name: values.pop(name, None) for name in _CHECKSUMS} if isinstance(values, dict) else {}
    knowledge = _read(values, file)
    _require_whole(values, checksums, file)
    settings = values["model"] if isinstance(values["model"], list) else [values["model"]]
    homes = _homes(root, len(settings))
    if given is None:
        return nn.ModuleList(from_pretrained(home) for home in homes), knowledge
    cure = f"{root} is of {counted(len(settings), 'network')}."
    require(len(given) == len(settings), "model", "as many networks as were saved", len(given), cure)
    for member, stored, home in zip(given, settings, homes, strict=True):
        require_same_settings(member, stored, home)
        load_weights(member, _weights_in(home))
    return given, knowledge


def _weights_in(home: Path) -> Path:
    weights = [home / name for name in _WEIGHTS if (home / name).is_file()]
    if not weights:
        message = f"`path` must be a folder that `Predictor.save` wrote, got {home}, which has no weights."
        raise MissingFileError(f"{message} Copy the whole folder again.", argument="path", file=home)
    return weights[0]


def _require_whole(values: dict[str, Any], checksums: dict[str, Any], file: Path) -> None:
    """Raise where the record was changed, or lies beside other networks than it was saved with.

    The first folders have no checksums.
    """
    if checksums.get("sha256") is None:
        return
    cure, configs = "Copy the whole folder again.", checksums["config_sha256"]
    got = f"{file} with another checksum: it is damaged or was edited"
    good = checksums["sha256"] == sha256_of_json(values | {"config_sha256": configs})
    require(good, "path", "a folder as it was saved", got, cure, error=CheckpointError, file=file)
    listed = configs if isinstance(configs, list) else [configs]
    for home, wanted in zip(_homes(file.parent, len(listed)), listed, strict=True):
        config = home / _CONFIG
        good, got = not config.is_file() or wanted == sha256_of_file(config), f"{config} of another network"
        what = f"a folder with the networks of its {PREDICTOR_FILE}"
        require(good, "path", what, got, cure, error=CheckpointError, file=config)


def _from_checkpoint(path: Path, given: nn.ModuleList | None) -> tuple[nn.ModuleList, Knowledge]:
    contents = load_checkpoint(path)
    values = contents.get("metadata")
    if values is None:
        raise CheckpointError(
            f"`path` must be a checkpoint with metadata, got {path}, which holds weights only. Train with "
            "Trainer(metadata=predictor.metadata), or build the network, call `load_weights` and make a Predictor.",
            argument="path",
            file=path,
        )
    knowledge = _read(values, path)
    if given is None:
        settings = values["model"]
        if settings is None:
            raise CheckpointError(
                f"`model` must be given for {path}: its network has parts of your own and cannot be rebuilt from "
                "numbers. Build it as for training and pass it as `model`.",
                argument="model",
                file=path,
            )
        given = nn.ModuleList([_built(settings, path)])
    require(len(given) == 1, "model", "one network for a checkpoint", len(given))
    put_weights(given[0], contents, path)
    return given, knowledge


def _built(settings: Mapping[str, object], path: Path) -> nn.Module:
    try:
        # The meta device draws no weights, and leaves the random numbers of the caller as they are.
        with torch.device("meta"):
            network = build(ModelSettings.from_dict(settings))
    except GuidedAttentionError as error:
        raise CheckpointError(f"`{path}` holds a network that cannot be built: {error}", file=path) from error
    return network.to_empty(device="cpu")


def _read(values: object, path: Path) -> Knowledge:
    try:
        return Knowledge.from_dict(values, path)
    except CheckpointError:
        raise
    except GuidedAttentionError as error:
        raise CheckpointError(f"`{path}` holds settings that cannot be used: {error}", file=path) from error
