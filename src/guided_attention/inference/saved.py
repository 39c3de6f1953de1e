"""What a predictor knows beside its weights, and the files that hold both."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from torch import nn

from guided_attention._checkpoints import (
    ModelSettings,
    load_checkpoint,
    load_weights,
    require_same_settings,
    settings_of,
)
from guided_attention._checks import cut_list, require, require_known_keys, require_path, require_type
from guided_attention._files import PathLike, replacing, sha256_of_file, sha256_of_json, whole_folder
from guided_attention._typing import SpatialDims
from guided_attention.errors import CheckpointError, GuidedAttentionError, MissingFileError
from guided_attention.labels import LabelSpec
from guided_attention.models import build, from_pretrained, save_pretrained
from guided_attention.preparation import Preparation

__all__ = ["ENSEMBLE", "FOLDS_FILE", "PREDICTOR_FILE", "Knowledge", "Precision", "load_knowledge", "save_knowledge"]

Precision: TypeAlias = Literal["fp32", "bf16"]
"""Number format of the network: single precision, or bfloat16 under autocast."""

_VERSION = 1
PREDICTOR_FILE = "predictor.json"
FOLDS_FILE, ENSEMBLE = "folds.json", "ensemble"
"""What a run of folds holds: which cases each fold holds out, and the folder of the ensemble of all of them."""
_BEST = "best.pt"
_CONFIG, _WEIGHTS = "config.json", ("model.safetensors", "model.pt")
_CHECKSUMS = ("sha256", "config_sha256")


@dataclass(frozen=True)
class Knowledge:
    """All that `Predictor` is made of, but the network."""

    preparation: Preparation
    labels: LabelSpec
    batch_size: int
    precision: Precision
    keep_largest: bool
    spatial_dims: SpatialDims

    def to_dict(self, model: nn.Module) -> dict[str, Any]:
        """Return everything as plain values, with the settings of the network, None for one of the user's own."""
        settings = settings_of(model)
        return {
            "version": _VERSION,
            "model": None if settings is None else settings.to_dict(),
            "preparation": self.preparation.to_dict(),
            "labels": self.labels.to_dict(),
            "batch_size": self.batch_size,
            "precision": self.precision,
            "keep_largest": self.keep_largest,
            "spatial_dims": self.spatial_dims,
        }

    @classmethod
    def from_dict(cls, values: object, path: Path) -> "Knowledge":
        """Return the record that `to_dict` wrote into the file `path`."""
        where = f"metadata of {path}"
        require_type(where, values, Mapping, "a mapping")
        assert isinstance(values, Mapping)  # noqa: S101 - for the type checker
        known = ("version", "model", *cls.__dataclass_fields__)
        require_known_keys(where, values, known, file=path)
        version = values.get("version")
        cure = "Update guided-attention." if isinstance(version, int) and version > _VERSION else ""
        require(
            version == _VERSION,
            f"version in {where}",
            str(_VERSION),
            version,
            cure,
            error=CheckpointError,
            file=path,
        )
        missing = [name for name in known if name not in values]
        require(
            not missing, where, f"with {', '.join(known)}", f"no {missing}", error=CheckpointError, file=path
        )
        rest = {name: values[name] for name in ("batch_size", "precision", "keep_largest", "spatial_dims")}
        good = (
            isinstance(rest["batch_size"], int)
            and rest["precision"] in get_args(Precision)
            and isinstance(rest["keep_largest"], bool)
            and rest["spatial_dims"] in (2, 3)
        )
        wanted = "with batch_size, precision, keep_largest and spatial_dims as `Predictor` takes them"
        require(good, where, wanted, rest, error=CheckpointError, file=path)
        return cls(
            Preparation.from_dict(values["preparation"]), LabelSpec.from_dict(values["labels"]), **rest
        )

    def identity(self, model: nn.Module) -> str:
        """Return a hash of the weights and of everything here."""
        digest = hashlib.sha256(json.dumps(self.to_dict(model), sort_keys=True).encode())
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor.detach().cpu().float().numpy()).tobytes())
        return digest.hexdigest()


def save_knowledge(folder: PathLike, model: nn.Module, knowledge: Knowledge) -> None:
    """Write the network as `save_pretrained` does, and the rest beside it, completely or not at all."""

    def fill(draft: Path) -> None:
        save_pretrained(model, draft)
        config = sha256_of_file(draft / _CONFIG)
        values = knowledge.to_dict(model) | {"config_sha256": config}
        text = json.dumps(values | {"sha256": sha256_of_json(values)}, indent=2) + "\n"
        with replacing(draft / PREDICTOR_FILE) as path:
            path.write_text(text, encoding="utf-8")

    whole_folder(require_path("folder", folder), fill)


def load_knowledge(path: PathLike, model: nn.Module | None) -> tuple[nn.Module, Knowledge]:
    """Return the network, with its weights, and the rest."""
    root = require_path("path", path)
    if not _exists(root):
        message = f"`path` must be an existing file or folder, got {path}."
        raise MissingFileError(message, argument="path", file=path)
    if (root / PREDICTOR_FILE).is_file():
        return _from_folder(root, model)
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
    return _from_checkpoint(checkpoint, model)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long for the file system
        return False


def _from_folder(root: Path, model: nn.Module | None) -> tuple[nn.Module, Knowledge]:
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
    if model is None:
        return from_pretrained(root), knowledge
    require_same_settings(model, {"metadata": values}, file)
    weights = [root / name for name in _WEIGHTS if (root / name).is_file()]
    if not weights:
        message = f"`path` must be a folder that `Predictor.save` wrote, got {root}, which has no weights."
        raise MissingFileError(f"{message} Copy the whole folder again.", argument="path", file=root)
    load_weights(model, weights[0])
    return model, knowledge


def _require_whole(values: dict[str, Any], checksums: dict[str, Any], file: Path) -> None:
    """Raise where the record was changed, or lies beside another network than it was saved with.

    The first folders have no checksums.
    """
    if checksums.get("sha256") is None:
        return
    config, cure = file.with_name(_CONFIG), "Copy the whole folder again."
    held = {"config_sha256": checksums["config_sha256"]}
    got = f"{file} with another checksum: it is damaged or was edited"
    good = checksums["sha256"] == sha256_of_json(values | held)
    require(good, "path", "a folder as it was saved", got, cure, error=CheckpointError, file=file)
    got = f"{config} of another network"
    good = not config.is_file() or checksums["config_sha256"] == sha256_of_file(config)
    require(
        good,
        "path",
        f"a folder with the network of its {PREDICTOR_FILE}",
        got,
        cure,
        error=CheckpointError,
        file=config,
    )


def _from_checkpoint(path: Path, model: nn.Module | None) -> tuple[nn.Module, Knowledge]:
    values = load_checkpoint(path).get("metadata")
    if values is None:
        raise CheckpointError(
            f"`path` must be a checkpoint with metadata, got {path}, which holds weights only. Train with "
            "Trainer(metadata=predictor.metadata), or build the network, call `load_weights` and make a Predictor.",
            argument="path",
            file=path,
        )
    knowledge = _read(values, path)
    if model is None:
        settings = values["model"]
        if settings is None:
            raise CheckpointError(
                f"`model` must be given for {path}: its network has parts of your own and cannot be rebuilt from "
                "numbers. Build it as for training and pass it as `model`.",
                argument="model",
                file=path,
            )
        model = _built(settings, path)
    load_weights(model, path)
    return model, knowledge


def _built(settings: Mapping[str, object], path: Path) -> nn.Module:
    try:
        return build(ModelSettings.from_dict(settings))
    except GuidedAttentionError as error:
        raise CheckpointError(f"`{path}` holds a network that cannot be built: {error}", file=path) from error


def _read(values: object, path: Path) -> Knowledge:
    try:
        return Knowledge.from_dict(values, path)
    except CheckpointError:
        raise
    except GuidedAttentionError as error:
        raise CheckpointError(f"`{path}` holds settings that cannot be used: {error}", file=path) from error
