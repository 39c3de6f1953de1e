"""Scores of whole volumes: mean surface distance, 95th percentile and largest distance, ours and other libraries'.

Every library gets the masks in its own form, and computes the three numbers as its documentation says.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.entries import Unavailable
from benchmarks.rows import Spec

__all__ = ["scored"]

_Grid = npt.NDArray[Any]
_CHAOS_MM, _MR_MM = (2.0, 0.7265625, 0.7265625), (7.7, 1.5, 1.5)
_ORGANS = {  # centre and half axes in voxels of a 36 x 256 x 256 scan, the reference's and the prediction's
    1: (((18, 110, 90), (13, 60, 55)), ((18, 112, 91), (13, 58, 56))),
    2: (((17, 120, 190), (8, 25, 30)), ((17, 122, 189), (9, 24, 30))),
    3: (((15, 170, 100), (9, 20, 17)), ((15, 171, 100), (9, 19, 17))),
    4: (((16, 170, 165), (9, 20, 17)), ((16, 169, 166), (8, 20, 18))),
}
_KIDNEY = 3


def scored(spec: Spec) -> Callable[[int], Callable[[], object]]:
    """Return the work: the same for every side, so that the first, small pass is a pass of the same."""
    prediction, reference, spacing_mm = _CASES[spec.part](spec)
    prepared = _LIBRARIES[spec.who](prediction, reference, spacing_mm)
    return lambda _: prepared


def _liver(spec: Spec) -> tuple[_Grid, _Grid, tuple[float, ...]]:
    """Read the CT case of CHAOS with a submission, 78 x 512 x 512."""
    if not spec.data:
        raise Unavailable(
            "needs `--data`: the folder of the CT case that CHAOS publishes, Segmentation and Ground"
        )
    folders = [Path(spec.data) / name for name in ("Segmentation", "Ground")]
    masks = [
        np.stack([np.asarray(Image.open(file)) for file in sorted(path.glob("*.png"))]) for path in folders
    ]
    return (masks[0] > 0).astype(np.uint8), (masks[1] > 0).astype(np.uint8), _CHAOS_MM


def _organs(_: Spec) -> tuple[_Grid, _Grid, tuple[float, ...]]:
    """Draw a scan of 36 x 256 x 256 with four organs."""
    return _drawn(1), _drawn(0), _MR_MM


def _far_voxel(_: Spec) -> tuple[_Grid, _Grid, tuple[float, ...]]:
    """Draw a kidney in such a scan, and in the prediction one voxel in the corner farthest from it."""
    prediction, reference = ((_drawn(side) == _KIDNEY).astype(np.uint8) for side in (1, 0))
    prediction[-1, 0, -1] = 1
    return prediction, reference, _MR_MM


def _drawn(side: int) -> _Grid:
    labels = np.zeros((36, 256, 256), dtype=np.uint8)
    grid = np.ogrid[:36, :256, :256]
    for value, organ in _ORGANS.items():
        centre, half = organ[side]
        inside = sum(((axis - c) / h) ** 2 for axis, c, h in zip(grid, centre, half, strict=True)) < 1
        labels[inside] = value
    return labels


_CASES: Mapping[str, Callable[[Spec], tuple[_Grid, _Grid, tuple[float, ...]]]] = {
    "liver": _liver,
    "four organs": _organs,
    "far voxel": _far_voxel,
}


def _ours(surface: str, prediction: _Grid, reference: _Grid, spacing_mm: Any) -> Callable[[], object]:  # noqa: ANN401
    from guided_attention.evaluation import evaluate_case  # noqa: PLC0415
    from guided_attention.labels import LabelSpec  # noqa: PLC0415
    from guided_attention.metrics import DistanceDefinition  # noqa: PLC0415

    labels = LabelSpec({int(value): str(value) for value in np.unique(reference) if value})
    definition = DistanceDefinition(surface=surface)  # type: ignore[arg-type]  # one of three, see below
    return partial(
        evaluate_case,
        prediction,
        reference,
        labels=labels,
        spacing_mm=spacing_mm,
        case_id="",
        definition=definition,
    )


def _masks(prediction: _Grid, reference: _Grid) -> list[tuple[_Grid, _Grid]]:
    return [(prediction == value, reference == value) for value in np.unique(reference) if value]


def _surface_distance(prediction: _Grid, reference: _Grid, spacing_mm: Any) -> Callable[[], object]:  # noqa: ANN401
    lib = _imported("surface_distance")
    pairs = _masks(prediction, reference)

    def run() -> list[tuple[float, ...]]:
        found = []
        for ours, theirs in pairs:
            distances = lib.compute_surface_distances(theirs, ours, spacing_mm)
            largest = (lib.compute_robust_hausdorff(distances, percent) for percent in (95, 100))
            found.append((*lib.compute_average_surface_distance(distances), *largest))
        return found

    return run


def _monai(prediction: _Grid, reference: _Grid, spacing_mm: Any) -> Callable[[], object]:  # noqa: ANN401
    import torch  # noqa: PLC0415

    lib = _imported("monai.metrics")
    settings = {"include_background": True, "spacing": list(spacing_mm)}
    pairs = [
        tuple(torch.from_numpy(mask)[None, None] for mask in pair) for pair in _masks(prediction, reference)
    ]

    def run() -> list[tuple[float, ...]]:
        found = []
        for pair in pairs:
            average = lib.compute_average_surface_distance(*pair, symmetric=True, **settings)
            largest = (lib.compute_hausdorff_distance(*pair, percentile=n, **settings) for n in (95, None))
            found.append((average.item(), *(distance.item() for distance in largest)))
        return found

    return run


def _medpy(prediction: _Grid, reference: _Grid, spacing_mm: Any) -> Callable[[], object]:  # noqa: ANN401
    lib = _imported("medpy.metric.binary")
    pairs = _masks(prediction, reference)

    def run() -> list[tuple[float, ...]]:
        measures = (lib.assd, lib.hd95, lib.hd)
        return [tuple(measure(*pair, voxelspacing=spacing_mm) for measure in measures) for pair in pairs]

    return run


def _imported(name: str) -> Any:  # noqa: ANN401
    from importlib import import_module  # noqa: PLC0415

    try:
        return import_module(name)
    except ImportError as error:
        raise Unavailable(str(error)) from error


_LIBRARIES: Mapping[str, Callable[..., Callable[[], object]]] = {
    "ours": partial(_ours, "voxel"),
    "ours, surfel": partial(_ours, "surfel"),
    "ours, mesh": partial(_ours, "mesh"),
    "surface-distance": _surface_distance,
    "monai": _monai,
    "medpy": _medpy,
}
