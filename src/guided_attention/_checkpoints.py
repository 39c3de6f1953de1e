"""Checkpoints: written atomically, tested before they are read, loaded completely or not at all."""

import json
import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from types import NoneType
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from guided_attention._checks import (
    cut_list,
    needs_extra,
    require,
    require_known_keys,
    require_path,
    require_type,
)
from guided_attention._files import DRAFT_PREFIX, PathLike, replacing
from guided_attention._state_dicts import is_changed, matching_entries, plain_network, weights_in
from guided_attention.errors import ArgumentError, CheckpointError, ExistingFileError, MissingFileError

__all__ = [
    "SAFETENSORS",
    "ModelSettings",
    "Plain",
    "differing_settings",
    "existing_file",
    "load_checkpoint",
    "load_weights",
    "network_in",
    "network_of",
    "put_weights",
    "read_contents",
    "require_same_settings",
    "save_checkpoint",
    "settings_of",
]

Plain: TypeAlias = str | int | float | bool | None
"""A value that JSON keeps as it is."""

SAFETENSORS = ".safetensors"

_NETWORK = "network"
"""Entry of a checkpoint with the settings of its network; a safetensors file has it in its header, as JSON."""

_FOLDER = 0x10  # the attribute in a zip file's directory
_ZIP = b"PK\x03\x04"
_ENDINGS = (".pt", ".pth", ".ckpt", SAFETENSORS)

_Stream: TypeAlias = BytesIO | BufferedReader

# What zipfile, and torch with pickle, have been seen to raise for damaged files; a warning where warnings are errors.
_DAMAGED_ZIP = (
    EOFError,
    NotImplementedError,  # a bit that names a compression zipfile does not know
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)
_UNREADABLE = (
    AssertionError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    Warning,
    pickle.UnpicklingError,
    struct.error,
)


@dataclass(frozen=True)
class ModelSettings:
    """What a network was built with: enough to build it again without its weights.

    Attributes:
        builder: Name of the builder in lower case, such as ``"msga"``.
        arguments: Every argument of the builder as a plain value; ``encoder_weights`` is None, since the weights of a
            trained network travel in its own file.

    Raises:
        ArgumentTypeError: `builder` is no text, or `arguments` does not map names to plain values.

    Example:
        >>> from guided_attention.models import daf
        >>> daf(encoder="resnet18", channels=8).settings.arguments["channels"]
        8
    """

    builder: str
    arguments: Mapping[str, Plain]

    def __post_init__(self) -> None:
        """Check the types, and keep a copy that no one else changes."""
        require_type("builder", self.builder, str, "the name of a builder")
        wanted = "a mapping of names to text, numbers, booleans and None"
        require_type("arguments", self.arguments, Mapping, wanted)
        for name, value in self.arguments.items():
            require_type("arguments", name, str, wanted)
            require_type(f"arguments[{name!r}]", value, (str, int, float, bool, NoneType), "a plain value")
        object.__setattr__(self, "arguments", dict(self.arguments))

    def to_dict(self) -> dict[str, object]:
        """Return the settings as JSON has them."""
        return {"builder": self.builder, "arguments": dict(self.arguments)}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "ModelSettings":
        """Return the settings that `to_dict` wrote; a missing or unknown key is an error."""
        require_type("values", values, Mapping, "a mapping with builder and arguments")
        require_known_keys("values", values, ("builder", "arguments"), error=ArgumentError)
        missing = [name for name in ("builder", "arguments") if name not in values]
        require(not missing, "values", "a mapping with builder and arguments", f"one without {missing}")
        # Both are checked where the record is made.
        return cls(cast("str", values["builder"]), cast("Mapping[str, Plain]", values["arguments"]))


def save_checkpoint(path: PathLike, contents: Mapping[str, object]) -> Path:
    """Write a checkpoint atomically: a crash at any moment leaves either the old file or the new one.

    Args:
        path: The file to write; its folder must exist. An existing file is replaced.
        contents: Tensors, numbers, strings, and lists, tuples and dictionaries of these. Anything else is written too,
            but `load_checkpoint` refuses to read it.

    Returns:
        The path.

    Raises:
        ArgumentTypeError: `contents` is no mapping, or `path` no path.
        MissingFileError: The folder does not exist.
        ExistingFileError: `path` is a folder.
        WriteError: The disk is full, or the folder cannot be written to; an older file stays as it was.

    Example:
        >>> import tempfile, torch
        >>> path = save_checkpoint(Path(tempfile.mkdtemp()) / "last.pt", {"epoch": 3, "weight": torch.ones(2)})
        >>> load_checkpoint(path)["epoch"]
        3
    """
    target = require_path("path", path)
    require_type("contents", contents, Mapping, "a mapping of names to values")
    if target.is_dir():
        message = f"`path` must be a file, got the folder {target}. Add a file name, such as last.pt."
        raise ExistingFileError(message, argument="path", file=target)
    # A file of Python's: torch's own says "enforce fail" where a disk is full.
    with replacing(target) as temporary, _with_checksums(), temporary.open("wb") as file:
        torch.save(dict(contents), file)
    return target


def load_checkpoint(path: PathLike) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; a damaged file, and one that would run code, is refused.

    The checksums of the file are tested before torch reads it. Files in torch's format from before version 1.6, which
    have none, and safetensors files, which need the extra ``safetensors``, are read too.

    Args:
        path: A file that `save_checkpoint` wrote, or any file of plain tensors and numbers that torch can read with
            ``weights_only=True``.

    Returns:
        The contents by name. `Trainer` writes ``best.pt`` with ``model``, ``epoch`` and ``score``, and ``last.pt`` with
        ``model``, ``optimizer``, ``averaged``, ``random`` and ``run``; both with ``network``, the settings of a network
        that a builder made and that was not changed since.

    Raises:
        MissingFileError: There is no such file.
        CheckpointError: The file is damaged, holds more than plain tensors and numbers, or holds no dictionary.

    Example:
        >>> import tempfile
        >>> path = save_checkpoint(Path(tempfile.mkdtemp()) / "best.pt", {"score": 0.5})
        >>> load_checkpoint(path)
        {'score': 0.5}
    """
    return _dictionary(read_contents(path), path)


def load_weights(model: nn.Module, path: PathLike) -> None:
    """Load the weights of a checkpoint into a network, all of them or none.

    The prefixes ``module.`` (of ``DataParallel``) and ``_orig_mod.`` (of ``torch.compile``) may be in the file, in the
    network, in both or in neither.

    Args:
        model: The network, built as it was for the training; changed in place.
        path: ``best.pt`` or ``last.pt`` of a run (their entry ``model`` is taken), or a file with a bare state dict.

    Raises:
        MissingFileError: There is no such file.
        CheckpointError: The file cannot be read, its weights are not those of this network, or the network was built
            with other settings than those stored in the file: the message names what differs. The network then keeps
            the weights it had.

    Example:
        >>> import tempfile
        >>> from torch import nn
        >>> trained, fresh = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3)
        >>> path = save_checkpoint(Path(tempfile.mkdtemp()) / "best.pt", {"model": trained.state_dict(), "epoch": 1})
        >>> load_weights(fresh, path)
        >>> bool((fresh.weight == trained.weight).all())
        True
    """
    require_type("model", model, nn.Module, "a torch.nn.Module")
    put_weights(model, load_checkpoint(path), path)


def put_weights(model: nn.Module, contents: Mapping[str, Any], path: PathLike) -> None:
    """Load the weights of a checkpoint that was read into a network: see `load_weights`."""
    require_same_settings(model, network_in(contents, path), path)
    wanted = model.state_dict()
    empty = [name for name, value in wanted.items() if isinstance(value, Tensor) and value.is_meta]
    cure = "Build the network without torch.device('meta')."
    require(not empty, "model", "a network with weights in memory", "one on the meta device", cure)
    model.load_state_dict(matching_entries(wanted, weights_in(contents), path))


def settings_of(model: nn.Module) -> ModelSettings | None:
    """Return what the network was built with, None where it does not know."""
    settings = getattr(plain_network(model), "settings", None)
    return settings if isinstance(settings, ModelSettings) else None


def network_of(model: nn.Module) -> dict[str, dict[str, object]]:
    """Return the entry of a checkpoint that tells how a network was built; none if it does not know or was changed."""
    settings = settings_of(model)
    return {} if settings is None or is_changed(model) else {_NETWORK: settings.to_dict()}


def network_in(contents: Mapping[str, Any], path: PathLike) -> object:
    """Return what a file tells of the settings of its network; None where it tells nothing, as the first files.

    Runs of earlier versions have them in their metadata only.
    """
    if Path(path).suffix == SAFETENSORS:
        return _network_in_header(path)
    metadata = contents.get("metadata")
    older = metadata.get("model") if isinstance(metadata, Mapping) else None
    return next((held for held in (contents.get(_NETWORK), older) if isinstance(held, Mapping)), None)


def _network_in_header(path: PathLike) -> object:
    from safetensors import safe_open  # noqa: PLC0415

    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
    with suppress(ValueError):  # another program's entry of this name
        return json.loads(header.get(_NETWORK, "null"))
    return None


def read_contents(
    path: PathLike,
    data: bytes | None = None,
    *,
    argument: str = "path",
    wanted: str = "a checkpoint of plain tensors and numbers",
) -> object:
    """Return what a file holds, or the bytes that were read from it; see `load_checkpoint`."""
    file = existing_file(path, argument)
    # Beside a checkpoint lie others of its run; beside a file of weights, those of other networks.
    instead = _instead(file) if argument == "path" else "Copy the file again."

    def refused(fault: str) -> CheckpointError:
        message = f"`{argument}` must be {wanted}, got {file}, {fault}"
        return CheckpointError(message, argument=argument, file=file)

    try:
        stream = file.open("rb") if data is None else BytesIO(data)
    except OSError as error:
        raise refused(f"which cannot be opened: {error.strerror}. Check its permissions.") from error
    with stream:
        try:
            _test_checksums(stream)
        except _DAMAGED_ZIP as error:
            fault = f"which torch cannot read: it is damaged or cut short ({error}). {instead}"
            raise refused(fault) from error
        try:
            return _parsed(stream, file.suffix)
        except _UNREADABLE as error:
            fault = "which torch cannot read with weights_only=True: it is damaged, or holds more than plain tensors"
            raise refused(f"{fault} and numbers. Save a state_dict() only. {instead}") from error


def existing_file(path: PathLike, argument: str) -> Path:
    """Return a path at which a regular file is; a pipe or a device is none."""
    file = require_path(argument, path)
    try:
        found = file.is_file()
    except OSError:  # a name that is too long for the file system
        found = False
    if not found:
        message = f"`{argument}` must be a checkpoint, got {file}, which is no file. Check its name."
        raise MissingFileError(message, argument=argument, file=file)
    return file


def _dictionary(contents: object, path: PathLike) -> dict[Any, Any]:
    got = f"{path}, which holds a {type(contents).__name__} in place of a dictionary"
    wanted, cure = "a checkpoint of plain tensors and numbers", "Save a dictionary."
    require(isinstance(contents, dict), "path", wanted, got, cure, error=CheckpointError, file=path)
    return cast("dict[Any, Any]", contents)


def _test_checksums(stream: _Stream) -> None:
    """Read every member of a zip file to its end, which compares its checksum; other formats have none."""
    start = stream.read(len(_ZIP))
    if start == _ZIP:
        with zipfile.ZipFile(stream) as archive:
            odd = [member.filename for member in archive.infolist() if not _is_stored_file(member)]
            damaged = odd[0] if odd else archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"bad member {damaged!r}")
    stream.seek(0)


def _is_stored_file(member: zipfile.ZipInfo) -> bool:
    """Whether a member is as torch writes it: no folder, and without compression, so that it cannot unpack to any size.

    torch takes a member with the attribute of a folder for an empty one, and returns whatever lies in memory.
    """
    return member.compress_type == zipfile.ZIP_STORED and not member.external_attr & _FOLDER


def _parsed(stream: _Stream, suffix: str) -> object:
    if suffix != SAFETENSORS:
        return torch.load(stream, map_location="cpu", weights_only=True)
    with needs_extra("safetensors"):
        from safetensors import SafetensorError  # noqa: PLC0415
        from safetensors.torch import load  # noqa: PLC0415
    try:
        return load(stream.read())
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _instead(file: Path) -> str:
    """Say which files a user may take in place of a damaged one: the others of the folder."""
    others = sorted(
        other.name
        for other in file.parent.iterdir()
        if other.suffix in _ENDINGS and other.name != file.name and not other.name.startswith(DRAFT_PREFIX)
    )
    return f"Use {cut_list(others)} beside it, or copy the file again." if others else "Copy the file again."


@contextmanager
def _with_checksums() -> Iterator[None]:
    """Let torch write checksums even where its user has switched them off: `load_checkpoint` tests them."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(compute_crc32=True)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def require_same_settings(model: nn.Module, stored: object, path: PathLike) -> None:
    """Raise where the file stores with which settings the network was built, and the network has others."""
    differing = differing_settings(model, stored)
    if differing:
        changed = " The network was changed after it was built." if is_changed(model) else ""
        raise CheckpointError(
            f"`path` must be a checkpoint of a network with these settings, got {path} with {differing}.{changed} "
            "Build the network with the settings of the file.",
            argument="path",
            file=path,
        )


def differing_settings(model: nn.Module, stored: object) -> str:
    """Return where the settings of a network are not those that were stored; empty where either has none."""
    ours = settings_of(model)
    if ours is None or not isinstance(stored, Mapping) or not isinstance(stored.get("arguments"), Mapping):
        return ""
    here = {"builder": ours.builder, **ours.arguments}
    there = {"builder": stored.get("builder"), **stored["arguments"]}
    names = [name for name in here | there if here.get(name) != there.get(name)]
    return ", ".join(f"{name} {there.get(name)!r} instead of {here.get(name)!r}" for name in names)
