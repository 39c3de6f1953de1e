"""What a predictor knows beside its weights, checked and as plain values."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from torch import nn

from guided_attention._checkpoints import ModelSettings, settings_of
from guided_attention._checks import repeated, require, require_choice, require_known_keys, require_type
from guided_attention._sides import mirrors_sides
from guided_attention._typing import SpatialDims
from guided_attention.errors import CheckpointError
from guided_attention.inference.mirrors import MIRROR_AXES, MirrorAxis
from guided_attention.inference.postprocess import PostProcessing
from guided_attention.labels import LabelSpec
from guided_attention.preparation import Preparation
from guided_attention.preparation._values import number, whole

__all__ = ["Knowledge", "Precision"]

Precision: TypeAlias = Literal["fp32", "bf16"]
"""Number format of the network: single precision, or bfloat16 under autocast."""

_VERSION = 2
_FIRST_NAMES = ("preparation", "labels", "batch_size", "precision", "keep_largest", "spatial_dims")
_FIT = "Call `Preparation.fit` on the training cases, or name its `slice_axis`."


@dataclass(frozen=True)
class Knowledge:
    """All that `Predictor` is made of, but the networks: see its arguments."""

    preparation: Preparation
    labels: LabelSpec
    spatial_dims: SpatialDims
    batch_size: int
    precision: Precision
    patch_size: Sequence[int] | None
    overlap: float
    mirror_axes: Sequence[MirrorAxis]
    postprocess: PostProcessing

    def __post_init__(self) -> None:
        """Check each value."""
        require_type("preparation", self.preparation, Preparation, "a Preparation")
        require_type("labels", self.labels, LabelSpec, "a LabelSpec")
        require_choice("spatial_dims", self.spatial_dims, (2, 3))
        require_choice("precision", self.precision, get_args(Precision))
        is_fitted = self.preparation.slice_axis is not None
        require(is_fitted, "preparation", "fitted", "one without a slice axis", _FIT)
        joined = self.preparation.neighbours
        good = self.spatial_dims == 2 or joined == 0  # noqa: PLR2004
        require(good, "preparation.neighbours", "0 for a 3-D network", joined)
        checked = {
            "batch_size": whole("batch_size", self.batch_size, least=1),
            "patch_size": _checked_size(self.patch_size, self.spatial_dims),
            "overlap": number("overlap", self.overlap),
            "mirror_axes": _checked_axes(self.mirror_axes, self.spatial_dims),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        require(0 <= self.overlap < 1, "overlap", "at least 0 and below 1", self.overlap)
        require_type("postprocess", self.postprocess, PostProcessing, "a PostProcessing")
        odd = sorted(set(self.postprocess.keep_largest) - set(self.labels.values))
        require(not odd, "postprocess.keep_largest", f"of the values {self.labels.values}", odd)
        if self.mirror_axes and self._has_sides:
            self.labels.require_sides("labels")

    @property
    def _has_sides(self) -> bool:
        return mirrors_sides(self.spatial_dims, self.preparation.slice_axis, self.preparation.neighbours)

    @property
    def exchanged_pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of classes that change places in a mirrored body."""
        return self.labels.class_pairs if self._has_sides else ()

    def to_dict(
        self, members: nn.ModuleList, known: Callable[[nn.Module], ModelSettings | None] = settings_of
    ) -> dict[str, Any]:
        """Return everything as plain values, with the settings of the network, None for one of the user's own.

        An ensemble has a list of settings. `known` returns those of a network.
        """
        settings = [None if one is None else one.to_dict() for one in map(known, members)]
        return {
            "version": _VERSION,
            "model": settings[0] if len(settings) == 1 else settings,
            "preparation": self.preparation.to_dict(),
            "labels": self.labels.to_dict(),
            "spatial_dims": self.spatial_dims,
            "batch_size": self.batch_size,
            "precision": self.precision,
            "patch_size": None if self.patch_size is None else list(self.patch_size),
            "overlap": self.overlap,
            "mirror_axes": list(self.mirror_axes),
            "postprocess": self.postprocess.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: object, path: Path) -> "Knowledge":
        """Return the record that `to_dict` wrote into the file `path`, or an earlier version."""
        where = f"metadata of {path}"
        require_type(where, values, Mapping, "a mapping")
        assert isinstance(values, Mapping)  # noqa: S101 - for the type checker
        version = values.get("version")
        cure = "Update guided-attention." if isinstance(version, int) and version > _VERSION else ""
        good = version in (1, _VERSION)
        wanted = f"at most {_VERSION}"
        require(good, f"version in {where}", wanted, version, cure, error=CheckpointError, file=path)
        names = cls.__dataclass_fields__
        known = ("version", "model", *(_FIRST_NAMES if version == 1 else names))
        require_known_keys(where, values, known, file=path)
        missing = [name for name in known if name not in values]
        wanted, got = f"with {', '.join(known)}", f"no {missing}"
        require(not missing, where, wanted, got, error=CheckpointError, file=path)
        rest = _of_first_version(values) if version == 1 else {name: values[name] for name in names}
        rest |= {
            "preparation": Preparation.from_dict(rest["preparation"]),
            "labels": LabelSpec.from_dict(rest["labels"]),
            "postprocess": PostProcessing.from_dict(rest["postprocess"]),
        }
        return cls(**rest)

    def identity(self, members: nn.ModuleList) -> str:
        """Return a hash of the weights and of all here that labels depend on: all but the size of batches."""
        values = self.to_dict(members)
        del values["batch_size"]
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
        for name, tensor in sorted(members.state_dict().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor.detach().cpu().float().numpy()).tobytes())
        return digest.hexdigest()


def _of_first_version(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of version 1 under the names of today: one flag kept the largest piece of every organ."""
    kept = values["keep_largest"]
    require_type("keep_largest", kept, bool, "True or False")
    organs = LabelSpec.from_dict(values["labels"]).values if kept else ()
    rest = {name: values[name] for name in _FIRST_NAMES if name != "keep_largest"}
    new = {"patch_size": None, "overlap": 0.5, "mirror_axes": ()}
    return rest | new | {"postprocess": PostProcessing(keep_largest=organs).to_dict()}


def _checked_size(size: object, dims: int) -> tuple[int, ...] | None:
    if size is None:
        return None
    wanted = f"{'(height, width)' if dims == 2 else '(depth, height, width)'} for a {dims}-D network, or None"  # noqa: PLR2004
    require_type("patch_size", size, (tuple, list), wanted)
    assert isinstance(size, tuple | list)  # noqa: S101 - for the type checker
    require(len(size) == dims, "patch_size", wanted, tuple(size))
    return tuple(whole("patch_size", side, least=1) for side in size)


def _checked_axes(axes: object, dims: int) -> tuple[object, ...]:
    known = tuple(MIRROR_AXES)[-dims:]
    wanted = f"a tuple of {', '.join(map(repr, known))}"
    require_type("mirror_axes", axes, (tuple, list), wanted, f"Write ({known[-1]!r},) for one axis.")
    assert isinstance(axes, tuple | list)  # noqa: S101 - for the type checker
    good = all(axis in known for axis in axes) and not repeated(axes)
    require(good, "mirror_axes", f"{wanted} for a {dims}-D network, each once", tuple(axes))
    return tuple(axes)
