"""Trained networks in folders: ``config.json`` with the settings, and a file of weights."""

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor, nn

from guided_attention._checkpoints import (
    ModelSettings,
    network_of,
    read_contents,
    save_checkpoint,
    settings_of,
)
from guided_attention._checks import cut_list, require, require_known_keys, require_path, require_type
from guided_attention._files import PathLike, replacing, sha256_of_file, sha256_of_json, whole_folder
from guided_attention._state_dicts import matching_entries, plain_name, plain_network, weights_in
from guided_attention.errors import ArgumentError, ArgumentTypeError, CheckpointError, MissingFileError
from guided_attention.models._changes import changed_parts
from guided_attention.models.danet import DualAttentionNetwork, danet
from guided_attention.models.msga import MSGA, msga_lite
from guided_attention.models.segmentation import SegmentationModel
from guided_attention.models.variants import daf, ms_cam, ms_danet, ms_dist, ms_dual, ms_pam

__all__ = ["build", "from_pretrained", "save_pretrained"]

_Network: TypeAlias = SegmentationModel | DualAttentionNetwork

_VERSION = 1
_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "model.pt")
_AGAIN = "Copy the folder again."
_BY_HAND = (
    "Save its weights with `save_checkpoint(path, {'model': model.state_dict()})`; later build the same network again "
    "and call `load_weights(model, path)`."
)
_KEYS = ("format_version", "library_version", "builder", "arguments", "weights", "weights_sha256", "sha256")


class _Row(NamedTuple):
    """A builder, and the arguments that not every builder has."""

    build: Callable[..., _Network]
    options: tuple[str, ...]


_COMMON = ("in_channels", "num_classes", "encoder", "encoder_weights", "spatial_dims")
_BUILDERS: Mapping[str, _Row] = {
    "msga": _Row(MSGA, ("channels", "steps", "energy", "shared_guide", "deeply_supervised")),
    "msga_lite": _Row(msga_lite, ("channels", "steps", "factor", "energy")),
    "daf": _Row(daf, ("channels",)),
    "ms_pam": _Row(ms_pam, ("channels",)),
    "ms_cam": _Row(ms_cam, ("channels", "energy")),
    "ms_danet": _Row(ms_danet, ("channels", "energy")),
    "ms_dual": _Row(ms_dual, ("channels", "steps", "energy")),
    "ms_dist": _Row(ms_dist, ("channels", "steps", "energy")),
    "danet": _Row(danet, ("energy",)),
}


def arguments_of(builder: str) -> tuple[str, ...]:
    """Return the names of the arguments that a builder takes; raise for an unknown one, naming the nearest."""
    require_known_keys("builder", [builder], tuple(_BUILDERS), error=ArgumentError)
    return (*_COMMON, *_BUILDERS[builder].options)


def build(settings: ModelSettings) -> _Network:
    """Build a network from its settings, with random weights.

    Args:
        settings: Such as ``model.settings``; arguments that are missing have the builder's defaults.

    Raises:
        ArgumentError: The builder or an argument is unknown (the message names the nearest one), or out of range.
        ArgumentTypeError: An argument has the wrong type.

    Example:
        >>> from guided_attention.models import ModelSettings, build
        >>> build(ModelSettings("daf", {"encoder": "resnet18", "channels": 8})).num_classes
        5
    """
    require_type("settings", settings, ModelSettings, "a ModelSettings", "Call `ModelSettings.from_dict`.")
    known = arguments_of(settings.builder)
    require_known_keys("arguments", settings.arguments, known, error=ArgumentError)
    weights = settings.arguments.get("encoder_weights")
    cure = "The weights of a trained network are in its own file."
    require(weights is None, "encoder_weights", "None in settings", repr(weights), cure)
    encoder = settings.arguments.get("encoder", "resnet18")
    require_type("encoder", encoder, str, "the name of a ResNet")
    return _BUILDERS[settings.builder].build(**settings.arguments)


def rebuildable(model: nn.Module) -> ModelSettings | None:
    """Return the settings from which `build` makes a network that computes the same; None where there are none."""
    settings = settings_of(model)
    if settings is None or settings.builder not in _BUILDERS or _changed_in(model, settings):
        return None
    return settings


def save_pretrained(model: nn.Module, folder: PathLike, *, overwrite: bool = False) -> Path:
    """Save a network in a folder from which `from_pretrained` builds it again, in another process and offline.

    ``config.json`` holds format and library version, the settings and checksums. The weights are in
    ``model.safetensors`` if the extra ``safetensors`` is installed, otherwise in ``model.pt``. The folder is written
    atomically.

    Args:
        model: A network that a builder made from names and numbers, also in ``DataParallel`` or ``torch.compile``.
        folder: A new or empty folder; folders above it are created.
        overwrite: Whether to replace a folder that this function wrote.

    Returns:
        The folder.

    Raises:
        ArgumentError: The network has modules of your own, or was changed after it was built: its weights, modules or
            their settings are not those of its builder, or its forward pass has hooks: remove these first where they
            only look on. What changes no logits in evaluation mode may differ, such as the momentum of batch norms, or
            a loss that is kept in the network.
        ExistingFileError: The folder holds files, and `overwrite` is not set or they are not of this function.

    Example:
        >>> import tempfile, torch
        >>> from guided_attention.models import daf, from_pretrained, save_pretrained
        >>> model = daf(encoder="resnet18", channels=8).eval()
        >>> folder = save_pretrained(model, Path(tempfile.mkdtemp()) / "daf")
        >>> x = torch.randn(1, 1, 37, 53)
        >>> torch.equal(from_pretrained(folder)(x), model(x))
        True
    """
    require_type("model", model, nn.Module, "a torch.nn.Module")
    require_type("overwrite", overwrite, bool, "True or False")
    target, settings = require_path("folder", folder), _settings_to_save(model)
    state = _state_to_save(model, settings)

    def fill(draft: Path) -> None:
        weights = _write_weights(draft, state, network_of(model))
        config: dict[str, object] = {
            "format_version": _VERSION,
            "library_version": _library_version(),
            **settings.to_dict(),
            "weights": weights.name,
            "weights_sha256": sha256_of_file(weights),
        }
        text = json.dumps({**config, "sha256": sha256_of_json(config)}, indent=2)
        with replacing(draft / _CONFIG) as file:
            file.write_text(text + "\n", encoding="utf-8")

    return whole_folder(target, fill, replaceable=(_CONFIG, *_WEIGHTS) if overwrite else ())


def from_pretrained(folder: PathLike) -> SegmentationModel | DualAttentionNetwork:
    """Build the network that `save_pretrained` wrote, with its weights, on the CPU and in evaluation mode.

    Checksums of settings and weights are tested first. Nothing is downloaded, and no code in the files is run.

    Args:
        folder: The folder; other files in it are ignored.

    Raises:
        MissingFileError: The folder, its ``config.json`` or its weights are missing.
        CheckpointError: A file is damaged, was edited, was written by a newer version, or does not fit the others.
        MissingPackageError: The weights are in ``model.safetensors``, and the package is not installed.
    """
    root = require_path("folder", folder)
    file = root / _CONFIG
    if not file.is_file():
        message = f"`folder` must be one that `save_pretrained` wrote, got {root}, which has no {_CONFIG}."
        raise MissingFileError(message, argument="folder", file=root)
    config = _read_config(file)
    weights = _read_weights(root / config["weights"], config["weights_sha256"])
    try:
        # The meta device initializes nothing: the tensors of the file become the weights.
        with torch.device("meta"):
            model = build(ModelSettings(config["builder"], config["arguments"]))
    except (ArgumentError, ArgumentTypeError) as error:
        raise CheckpointError(f"`{file}` holds settings that no network has. {error}", file=file) from error
    model.load_state_dict(matching_entries(model.state_dict(), weights, file), assign=True)
    return model.eval()


def _settings_to_save(model: nn.Module) -> ModelSettings:
    settings, name = settings_of(model), type(plain_network(model)).__name__
    if settings is None or settings.builder not in _BUILDERS:
        message = (
            f"`model` must be built from names and numbers, by one of {', '.join(_BUILDERS)}, got a {name} with "
            f"modules of your own. {_BY_HAND}"
        )
        raise ArgumentError(message, argument="model")
    return settings


def _state_to_save(model: nn.Module, settings: ModelSettings) -> dict[str, Tensor]:
    """Return copies of all weights; raise if the network is not the one with these settings."""
    changed = _changed_in(model, settings)
    got = f"one that was changed in {cut_list(changed)}"
    require(not changed, "model", "as its builder made it", got, _BY_HAND)
    state = {plain_name(name): value for name, value in plain_network(model).state_dict().items()}
    empty = any(value.is_meta for value in state.values())
    require(not empty, "model", "a network with weights in memory", "one on the meta device")
    keep = torch.contiguous_format
    return {name: value.detach().to("cpu", copy=True, memory_format=keep) for name, value in state.items()}


def _changed_in(model: nn.Module, settings: ModelSettings) -> list[str]:
    with torch.device("meta"):
        return changed_parts(model, build(settings))


def _write_weights(folder: Path, state: dict[str, Tensor], network: Mapping[str, dict[str, object]]) -> Path:
    """Write the weights, with the settings that `load_weights` compares."""
    safetensors, plain = (folder / name for name in _WEIGHTS)
    try:
        from safetensors.torch import save  # noqa: PLC0415
    except ModuleNotFoundError:
        return save_checkpoint(plain, {"model": state, **network})
    with replacing(safetensors) as file:
        file.write_bytes(save(state, {name: json.dumps(value) for name, value in network.items()}))
    return safetensors


def _read_weights(path: Path, checksum: str) -> Mapping[str, Any]:
    if not path.is_file():
        message = (
            f"`folder` must be one that `save_pretrained` wrote, got {path.parent}, which has no {path.name}."
        )
        raise MissingFileError(message, argument="folder", file=path)
    data = _read_bytes(path)
    got = f"{path} with another checksum: the file is damaged"
    _require(hashlib.sha256(data).hexdigest() == checksum, "with the weights that were saved", got, path)
    contents = read_contents(path, data, argument="folder", wanted="one with whole files")
    _require(isinstance(contents, dict), "one with a state dict", f"{path} with something else", path)
    return weights_in(cast("dict[str, Any]", contents))


def _read_config(file: Path) -> dict[str, Any]:
    """Return the contents of ``config.json``, all keys there, of the right types and with the right checksum."""
    try:
        config: Any = json.loads(_read_bytes(file).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        message = f"`folder` must be one with valid JSON, got {file}, which is damaged: {error}. {_AGAIN}"
        raise CheckpointError(message, argument="folder", file=file) from error
    _require(isinstance(config, dict), "one with a mapping", f"a {type(config).__name__} in {file}", file)
    version = config.get("format_version")
    is_newer = isinstance(version, int) and version > _VERSION
    cure = "Update guided-attention." if is_newer else _AGAIN
    _require(version == _VERSION, f"of format version {_VERSION}", f"{version!r} in {file}", file, cure)
    require_known_keys("folder", config, _KEYS, error=CheckpointError, file=file)
    missing = [name for name in _KEYS if name not in config]
    _require(not missing, f"one with {', '.join(_KEYS)}", f"{file} without {', '.join(missing)}", file)
    held = {name: value for name, value in config.items() if name != "sha256"}
    got = f"{file} with another checksum: the file is damaged or was edited"
    _require(config["sha256"] == sha256_of_json(held), "with the settings that were saved", got, file)
    _require(
        config["weights"] in _WEIGHTS, f"one with {' or '.join(_WEIGHTS)}", repr(config["weights"]), file
    )
    arguments = config["arguments"]
    row = _BUILDERS.get(config["builder"]) if isinstance(config["builder"], str) else None
    known = (*_COMMON, *row.options) if row is not None else ()
    lacking = [name for name in known if name not in arguments] if isinstance(arguments, dict) else []
    _require(not lacking, "one with every argument", f"{file} without {', '.join(lacking)}", file)
    return cast("dict[str, Any]", config)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"`folder` must be readable, got {path}: {error.strerror}. Check its permissions."
        raise CheckpointError(message, argument="folder", file=path) from error


def _require(condition: bool, wanted: str, got: str, file: Path, cure: str = _AGAIN) -> None:
    require(condition, "folder", wanted, got, cure, error=CheckpointError, file=file)


def _library_version() -> str:
    """Return the version of the package, which is not complete when this module is imported."""
    return str(import_module("guided_attention").__version__)
