"""Augmentation: a sequence of random changes, drawn for each sample by its seed, then applied."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from guided_attention._checks import (
    counted,
    cut_list,
    require,
    require_choice,
    require_known_keys,
    require_type,
)
from guided_attention.errors import ArgumentTypeError, DataError
from guided_attention.sampling.augment import full_precision
from guided_attention.sampling.augmentation.change import Change
from guided_attention.sampling.augmentation.filters import GaussianBlur, LowResolution, Sharpening
from guided_attention.sampling.augmentation.intensity import (
    Brightness,
    Contrast,
    Gamma,
    GaussianNoise,
    IntensityCurve,
)
from guided_attention.sampling.augmentation.local import (
    BiasField,
    BlankRectangles,
    BrightnessGradient,
    LocalGamma,
)
from guided_attention.sampling.augmentation.mirror import Mirror
from guided_attention.sampling.augmentation.spatial import Spatial

__all__ = ["Augmentation", "Drawn"]

Drawn: TypeAlias = list[list[list[float] | None]]
"""What was drawn: for each sample and each change its numbers, or None where the sample is not changed by it."""

_UNSIGNED = {torch.uint16, torch.uint32, torch.uint64}
"""Types of labels that torch computes next to nothing with."""
_KINDS: Mapping[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        BiasField,
        BlankRectangles,
        Brightness,
        BrightnessGradient,
        Contrast,
        Gamma,
        GaussianBlur,
        GaussianNoise,
        IntensityCurve,
        LocalGamma,
        LowResolution,
        Mirror,
        Sharpening,
        Spatial,
    )
}


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training batch, on the device where it lies.

    What a sample undergoes depends on its own seed only: a batch equals its samples one by one, bit for bit, whichever
    process holds them. Numbers are drawn first and are plain: keep them to apply the same changes again. Noise comes
    from the device's own generator, so a GPU gives other noise than the CPU.

    Attributes:
        changes: Applied in this order. `default_augmentation` returns a good set.

    Example:
        >>> import torch
        >>> augment = Augmentation((Mirror(axes=(1,)), GaussianNoise(probability=0.5)))
        >>> images, labels = torch.rand(3, 1, 5, 7), torch.zeros(3, 5, 7, dtype=torch.long)
        >>> seeds = torch.tensor([4, 8, 15])
        >>> drawn = augment.draw(images.shape[1:], seeds)
        >>> again, _ = augment.apply(images, labels, drawn)
        >>> bool((augment(images, labels, seeds)[0] == again).all())
        True
    """

    changes: tuple[Change, ...]

    def __post_init__(self) -> None:
        """Check that they are changes."""
        require_type("changes", self.changes, tuple, "a tuple of changes", "Write (change,) for one.")
        for change in self.changes:
            require_type("changes", change, Change, "made of objects with `draw` and `apply`")

    def __call__(self, images: Tensor, labels: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the changes of each sample by its seed, and apply them.

        Args:
            images: ``(n, channels, *space)``, floating point, on any device. Those of half precision are computed in
                single precision and turned back.
            labels: ``(n, *space)``, classes.
            seeds: ``(n,)``, whole numbers from 0 on, on the CPU.

        Returns:
            Images and labels of the same shapes; the arguments stay as they are.

        Raises:
            ArgumentError: Shapes or numbers of samples do not fit, an image is not finite, or a seed is negative.
            ArgumentTypeError: An argument is no tensor, or one of other numbers.
        """
        _require_batch(images, labels)
        return self.apply(images, labels, self.draw(images.shape[1:], seeds))

    def draw(self, image_shape: Sequence[int], seeds: Tensor) -> Drawn:
        """Draw the changes of each sample.

        Args:
            image_shape: Of one image: ``(channels, *space)``.
            seeds: ``(n,)``, whole numbers from 0 on.

        Returns:
            Lists of numbers, fit for JSON: samples, changes, numbers of the change or None.
        """
        _require_whole("seeds", seeds)
        require(seeds.ndim == 1, "seeds", "of one axis", tuple(seeds.shape))
        require(not bool((seeds < 0).any()), "seeds", "0 or above", seeds.tolist())
        shape = tuple(image_shape)
        generators = (np.random.default_rng(each) for each in seeds.tolist())
        return [[change.draw(shape, random) for change in self.changes] for random in generators]

    @torch.no_grad()
    def apply(self, images: Tensor, labels: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """Apply what was drawn; only samples that are changed are computed.

        Args:
            images: ``(n, channels, *space)``, floating point and finite: resampling and blurring would spread a NaN.
            labels: ``(n, *space)``.
            drawn: What `draw` returned for images of this shape.

        Returns:
            Images and labels of the same shapes.
        """
        _require_batch(images, labels)
        require(len(images) > 0, "images", "of at least one sample", 0)
        wanted = (len(images), *images.shape[2:])
        require(tuple(labels.shape) == wanted, "labels", f"of shape {wanted}", tuple(labels.shape))
        require(len(drawn) == len(images), "drawn", f"for {counted(len(images), 'sample')}", len(drawn))
        _require_finite(images)
        pairs = [self._changed(*sample) for sample in zip(images, labels, drawn, strict=True)]
        return torch.stack([image for image, _ in pairs]), torch.stack([classes for _, classes in pairs])

    def _changed(
        self, image: Tensor, labels: Tensor, numbers: Sequence[list[float] | None]
    ) -> tuple[Tensor, Tensor]:
        wanted = f"numbers or None for each of {counted(len(self.changes), 'change')}"
        require(len(numbers) == len(self.changes), "drawn", wanted, len(numbers))
        given, image = image.dtype, full_precision(image)
        classes, labels = labels.dtype, labels.long() if labels.dtype in _UNSIGNED else labels
        for change, drawn in zip(self.changes, numbers, strict=True):
            if drawn is not None:
                image, labels = change.apply(image, labels, drawn)
        return image.to(given), labels.to(classes)

    def to_dict(self) -> dict[str, Any]:
        """Return the changes as plain values, for JSON and plans.

        Raises:
            ArgumentTypeError: A change is not of this library.
        """
        for change in self.changes:
            require_type("changes", change, tuple(_KINDS.values()), f"made of {', '.join(_KINDS)}")
        return {"changes": [_plain(change) for change in self.changes]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Augmentation":
        """Return the changes that `to_dict` wrote.

        Raises:
            DataError: A kind or a key is unknown or missing.
            ArgumentError: A value is out of range.
            ArgumentTypeError: A value has the wrong type.
        """
        require_type("augmentation", values, Mapping, "a mapping")
        require_known_keys("augmentation", values, ("changes",))
        changes = values.get("changes", ())
        require_type("changes", changes, (list, tuple), "a list of mappings")
        return cls(tuple(_change(each) for each in changes))


def _require_batch(images: Tensor, labels: Tensor) -> None:
    """Raise unless both are tensors of numbers that the changes take."""
    require_type("images", images, Tensor, "a tensor of floating point numbers")
    kind, cure = f"a tensor of {images.dtype}", "Convert them with images.float()."
    good = images.is_floating_point()
    require(good, "images", "a tensor of floating point numbers", kind, cure, error=ArgumentTypeError)
    _require_whole("labels", labels)


def _require_finite(images: Tensor) -> None:
    """Raise for NaN or infinite values, which readers refuse; a batch may come from elsewhere."""
    finite = images.isfinite().flatten(1).all(dim=1).tolist()  # one transfer from the device
    odd = [place for place, good in enumerate(finite) if not good]
    cure = "Replace them (torch.nan_to_num), or leave these samples out."
    got = f"NaN or infinite values in samples of index {cut_list(odd)}"
    require(not odd, "images", "finite everywhere", got, cure)


def _require_whole(argument: str, tensor: Tensor) -> None:
    require_type(argument, tensor, Tensor, "a tensor of whole numbers")
    good = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype is torch.bool)
    got = f"a tensor of {tensor.dtype}"
    require(
        good,
        argument,
        "a tensor of whole numbers",
        got,
        f"Convert {argument} with .long().",
        error=ArgumentTypeError,
    )


def _plain(change: Change) -> dict[str, Any]:
    return {"kind": type(change).__name__} | {
        name: _plain_value(getattr(change, name)) for name in _fields_of(type(change))
    }


def _plain_value(value: object) -> object:
    """Return Python's numbers in place of NumPy's, which JSON does not take."""
    if isinstance(value, tuple):
        return tuple(_plain_value(each) for each in value)
    return value.item() if isinstance(value, np.generic) else value


def _fields_of(kind: type[Any]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def _change(values: Mapping[str, Any]) -> Change:
    require_type("changes", values, Mapping, "a list of mappings")
    require("kind" in values, "changes", "of mappings with the key 'kind'", list(values), error=DataError)
    require_choice("kind", values["kind"], tuple(_KINDS), error=DataError)
    kind = _KINDS[values["kind"]]
    rest = {name: _tuples(value) for name, value in values.items() if name != "kind"}
    require_known_keys(values["kind"], rest, _fields_of(kind))
    missing = [each.name for each in fields(kind) if each.default is MISSING and each.name not in rest]
    require(not missing, values["kind"], f"a mapping with {cut_list(missing)}", list(rest), error=DataError)
    change: Change = kind(**rest)
    return change


def _tuples(value: object) -> object:
    """Return tuples in place of the lists of JSON."""
    return tuple(_tuples(each) for each in value) if isinstance(value, (list, tuple)) else value
