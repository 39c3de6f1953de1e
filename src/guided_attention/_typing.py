"""Names of the shapes and units that pass through the library.

Where jaxtyping is installed, each alias carries its shape and kind, and the tests check them at every call,
across all arguments of a function (``channels`` is one number in one call). Where it is not, an alias is the
plain tensor or array: jaxtyping is no run-time dependency.

Letters of space are ``depth height width`` (array order, voxels); lengths in millimetres are ``(z, y, x)``.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

__all__ = [
    "Affine",
    "AnyFeatureMap",
    "AnyLabels",
    "AnyMask",
    "AnyProbabilities",
    "FeatureMap",
    "Image",
    "ImageSlice",
    "ImageVolume",
    "Keys",
    "LabelArray",
    "LabelMap",
    "LabelSlice",
    "LabelVolume",
    "Logits",
    "MaskArray",
    "Numbers",
    "OutFeatureMap",
    "Positions",
    "ProbabilityArray",
    "QueriedValues",
    "Queries",
    "Scalar",
    "SliceAxis",
    "SpacingMm",
    "SpatialDims",
    "UncertaintyVolume",
    "Values",
]

Numbers: TypeAlias = Sequence[float] | npt.NDArray[Any] | Tensor
"""One row of real numbers."""

SpacingMm: TypeAlias = tuple[float, float, float]
"""Distance between voxel centres in millimetres, in array order (z, y, x)."""

SliceAxis: TypeAlias = Literal["axial", "coronal", "sagittal"]
"""Which way a volume is cut into slices: across the axis feet-head, back-front or left-right."""

SpatialDims: TypeAlias = Literal[2, 3]
"""2 for images ``(batch, channels, height, width)``, 3 for volumes ``(batch, channels, depth, height, width)``."""

if TYPE_CHECKING:
    Affine: TypeAlias = npt.NDArray[np.float64]
    AnyFeatureMap: TypeAlias = Tensor
    AnyLabels: TypeAlias = npt.NDArray[Any] | Tensor
    AnyMask: TypeAlias = npt.NDArray[np.bool_] | Tensor
    AnyProbabilities: TypeAlias = npt.NDArray[Any] | Tensor
    FeatureMap: TypeAlias = Tensor
    Image: TypeAlias = Tensor
    ImageSlice: TypeAlias = Tensor
    ImageVolume: TypeAlias = npt.NDArray[np.float32]
    Keys: TypeAlias = Tensor
    LabelArray: TypeAlias = npt.NDArray[Any]
    LabelMap: TypeAlias = Tensor
    LabelSlice: TypeAlias = Tensor
    LabelVolume: TypeAlias = npt.NDArray[Any]
    Logits: TypeAlias = Tensor
    MaskArray: TypeAlias = npt.NDArray[np.bool_]
    OutFeatureMap: TypeAlias = Tensor
    Positions: TypeAlias = Tensor
    ProbabilityArray: TypeAlias = npt.NDArray[Any]
    Queries: TypeAlias = Tensor
    QueriedValues: TypeAlias = Tensor
    Scalar: TypeAlias = Tensor
    UncertaintyVolume: TypeAlias = npt.NDArray[np.float32]
    Values: TypeAlias = Tensor
else:
    try:
        from jaxtyping import Bool, Float, Float32, Float64, Integer
    except ImportError:

        class _Unshaped:
            """Stand-in for jaxtyping's kinds: forgets the shape, keeps the array type."""

            def __class_getitem__(cls, item: tuple[type, str]) -> type:
                return item[0]

        Bool = Float = Float32 = Float64 = Integer = _Unshaped

    Affine = Float64[np.ndarray, "4 4"]
    AnyFeatureMap = Float[Tensor, "batch _ *_"]
    AnyLabels = Integer[np.ndarray, "*space"] | Integer[Tensor, "*space"]
    AnyMask = Bool[np.ndarray, "*space"] | Bool[Tensor, "*space"]
    AnyProbabilities = Float[np.ndarray, "classes *space"] | Float[Tensor, "classes *space"]
    FeatureMap = Float[Tensor, "batch channels *space"]
    Image = Float[Tensor, "batch in_channels *space"]
    ImageSlice = Float[Tensor, "channels height width"]
    ImageVolume = Float32[np.ndarray, "channels depth height width"]
    Keys = Float[Tensor, "batch keys head_width"]
    LabelArray = Integer[np.ndarray, "*space"]
    LabelMap = Integer[Tensor, "batch *space"]
    LabelSlice = Integer[Tensor, "height width"]
    LabelVolume = Integer[np.ndarray, "depth height width"]
    Logits = Float[Tensor, "batch classes *space"]
    MaskArray = Bool[np.ndarray, "*space"]
    OutFeatureMap = Float[Tensor, "batch out_channels *space"]
    Positions = Integer[Tensor, " positions"]
    Queries = Float[Tensor, "batch queries head_width"]
    ProbabilityArray = Float[np.ndarray, "classes *space"]
    QueriedValues = Float[Tensor, "batch queries channels"]
    Scalar = Float[Tensor, ""]
    UncertaintyVolume = Float32[np.ndarray, "depth height width"]
    Values = Float[Tensor, "batch keys channels"]
