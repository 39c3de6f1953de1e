"""From a case to its predicted volume, slice by slice or whole, with the geometry it came with."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from guided_attention._checks import require, require_choice, require_positive
from guided_attention._layers import resize
from guided_attention._typing import LabelVolume, SpatialDims
from guided_attention.case import Case
from guided_attention.data import write_nifti
from guided_attention.evaluation import CaseScore, evaluate_case
from guided_attention.inference.postprocess import keep_largest_component
from guided_attention.labels import LabelSpec
from guided_attention.metrics import DistanceDefinition
from guided_attention.outputs import Prediction

__all__ = [
    "check_settings",
    "evaluate_model",
    "evaluate_prediction",
    "free_paths",
    "predict_case",
    "save_prediction",
]

_MOST_CLASSES = 256  # labels are stored in one byte


def predict_case(
    model: nn.Module,
    case: Case,
    *,
    batch_size: int = 8,
    spatial_dims: SpatialDims = 2,
    device: torch.device | str | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    in_plane_mm: float | None = None,
    min_size: tuple[int, int] | None = None,
) -> Prediction:
    """Let a trained network draw the organs of one case, and say of each voxel how sure it is.

    ::

        label(voxel)       = the class of the largest probability; of equal ones, the lowest class
        uncertainty(voxel) = - Σ_class p · log p / log(classes)

    The image goes in as it is: normalise it as it was done for the training. Beside the case and the two
    volumes of the result, no more than one batch is held in memory. The network works in evaluation mode and
    without gradients; afterwards every part of it is in the mode it was in before.

    Args:
        model: Takes images ``(batch, channels, *space)`` to logits ``(batch, classes, *space)``.
        case: What to predict; its labels, if any, are not looked at.
        batch_size: Slices that go through the network at once; for 3-D networks the volume is one batch.
        spatial_dims: 2 for a network of slices ``(height, width)``, 3 for one of whole volumes.
        device: Where to compute; None stays where the network is. The network is moved there for good.
        precision: ``"fp32"``, or ``"bf16"`` to run the network under autocast in bfloat16.
        in_plane_mm: Distance between pixels that the network was trained on, where the cases were resampled
            (`resample_in_plane`): slices are brought there linearly, and the logits back to the pixels of the
            case. None shows the network the pixels as they are.
        min_size: Height and width that the network is shown at the least, in the pixels that it is shown: smaller
            slices are padded as `SliceDataset` pads them about the centre, and the logits cropped. Where slices were
            padded in training, give its ``size``: a network that has learnt from padded slices may score far worse
            on bare ones. None pads nothing.

    Returns:
        Labels, uncertainty, and the case's id, spacing and affine.

    Raises:
        ValueError: The case has other channels than ``in_channels`` of the network or of its encoder (where
            either tells it), or the logits have another size than the image, fewer than 2 classes or more
            than 256, or are NaN; an argument is out of range.

    Example:
        >>> import numpy as np
        >>> from torch import nn
        >>> from guided_attention.case import Case, affine_of
        >>> case = Case("7", np.ones((1, 3, 5, 7), np.float32), None, affine_of((9.0, 1.5, 1.5)))
        >>> prediction = predict_case(nn.Conv2d(1, 4, kernel_size=1), case)
        >>> prediction.labels.shape, prediction.labels.dtype
        ((3, 5, 7), dtype('uint8'))
    """
    check_settings(batch_size, spatial_dims, precision, in_plane_mm, min_size)
    _require_channels(model, case)
    shown = _shown(case, in_plane_mm, min_size)
    where = torch.device(device) if device is not None else _device_of(model)
    size = case.image.shape[1:]
    labels, uncertainty = np.empty(size, np.uint8), np.empty(size, np.float32)
    with (
        _evaluating(model.to(where)),
        torch.inference_mode(),
        torch.autocast(where.type, dtype=torch.bfloat16, enabled=precision == "bf16"),
    ):
        for part, image in _batches(case, batch_size, spatial_dims):
            drawn, doubt = _labels_and_uncertainty(_logits(model, image.to(where), shown))
            labels[part], uncertainty[part] = drawn.cpu().numpy(), doubt.cpu().numpy()
    return Prediction(case.case_id, labels, uncertainty, case.affine.copy())


def check_settings(
    batch_size: int,
    spatial_dims: SpatialDims,
    precision: str,
    in_plane_mm: float | None,
    min_size: tuple[int, int] | None,
) -> None:
    """Raise where an argument that is the same for every case is out of range."""
    require(batch_size >= 1, "batch_size", "at least 1", batch_size)
    require_choice("spatial_dims", spatial_dims, (2, 3))
    require_choice("precision", precision, ("fp32", "bf16"))
    if in_plane_mm is not None:
        require_positive("in_plane_mm", in_plane_mm)
    if min_size is not None:
        require(len(min_size) == 2, "min_size", "a height and a width", min_size)  # noqa: PLR2004
        require(min(min_size) > 0, "min_size", "above 0", min_size)


def save_prediction(
    prediction: Prediction, folder: Path | str, *, include_uncertainty: bool = False, overwrite: bool = False
) -> Path:
    """Write a prediction as NIfTI, so that a viewer lays it over the scan it was made from.

    Args:
        prediction: What `predict_case` returned.
        folder: Where to write ``<id>_prediction.nii.gz``; made where it is missing.
        include_uncertainty: Also write ``<id>_uncertainty.nii.gz``, float32.
        overwrite: Replace files that are there already.

    Returns:
        The path of the label volume.

    Raises:
        FileExistsError: A file is there already, and `overwrite` is not set; nothing is written then.
        ModuleNotFoundError: nibabel is not installed.
        ValueError: The case's id cannot be part of a file name.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from guided_attention.outputs import Prediction
        >>> labels = np.ones((3, 5, 7), np.uint8)
        >>> doubt = np.zeros((3, 5, 7), np.float32)
        >>> prediction = Prediction("7", labels, doubt, np.diag([1.5, 1.5, 9.0, 1.0]))
        >>> save_prediction(prediction, tempfile.mkdtemp()).name
        '7_prediction.nii.gz'
    """
    paths = free_paths(
        prediction.case_id, folder, include_uncertainty=include_uncertainty, overwrite=overwrite
    )
    Path(folder).mkdir(parents=True, exist_ok=True)
    volumes = {"prediction": prediction.labels, "uncertainty": prediction.uncertainty}
    for kind, path in paths.items():
        write_nifti(path, volumes[kind], prediction.affine)
    return paths["prediction"]


def free_paths(
    case_id: str,
    folder: Path | str,
    *,
    include_uncertainty: bool,
    overwrite: bool,
) -> dict[str, Path]:
    """Return where each kind of volume of a case of that id goes; raise where none may be written."""
    plain = bool(case_id) and not set(case_id) & set('/\\:*?"<>|\0')
    require(plain, "prediction.case_id", "fit for a file name", repr(case_id), cure="Rename the case.")
    kinds = ("prediction", "uncertainty") if include_uncertainty else ("prediction",)
    paths = {kind: Path(folder) / f"{case_id}_{kind}.nii.gz" for kind in kinds}
    held = [str(path) for path in paths.values() if path.exists()]
    if held and not overwrite:
        raise FileExistsError(
            f"`folder` must be free of earlier predictions of this case, got {', '.join(held)}. "
            "Name another folder, or set overwrite=True to replace them."
        )
    return paths


def evaluate_prediction(
    prediction: Prediction, case: Case, labels: LabelSpec | Mapping[int, str], *, distances: bool = True
) -> list[CaseScore]:
    """Compare what the network drew in one case with what the expert drew: one score an organ.

    Args:
        prediction: What `predict_case` returned for the case.
        case: With labels.
        labels: Name of each organ by its label, background left out.
        distances: Whether surface distances are computed too, which takes most of the time.

    Returns:
        The scores, in the order of `labels`: see `evaluate_case`.

    Raises:
        ValueError: The case has no labels, is another one than was predicted, or a volume holds a label
            without a name.

    Example:
        >>> import numpy as np
        >>> from guided_attention.case import Case, affine_of
        >>> from guided_attention.outputs import Prediction
        >>> labels = np.ones((1, 3, 5), np.uint8)
        >>> case = Case("7", np.zeros((1, 1, 3, 5), np.float32), labels, affine_of((9.0, 1.5, 1.5)))
        >>> doubt = np.zeros((1, 3, 5), np.float32)
        >>> prediction = Prediction("7", labels, doubt, case.affine)
        >>> evaluate_prediction(prediction, case, {1: "liver"})[0].dice
        1.0
    """
    require(
        prediction.case_id == case.case_id,
        "prediction",
        f"that of case {case.case_id!r}",
        f"case {prediction.case_id!r}",
    )
    return evaluate_case(
        prediction.labels,
        _labels_of(case),
        labels=labels if isinstance(labels, LabelSpec) else LabelSpec(labels),
        spacing_mm=case.spacing_mm,
        case_id=case.case_id,
        definition=DistanceDefinition() if distances else None,
    )


def evaluate_model(  # noqa: PLR0913 - those of predict_case and of evaluate_prediction
    model: nn.Module,
    cases: Iterable[Case],
    labels: LabelSpec | Mapping[int, str],
    *,
    distances: bool = True,
    keep_largest: bool = False,
    batch_size: int = 8,
    spatial_dims: SpatialDims = 2,
    precision: Literal["fp32", "bf16"] = "fp32",
    in_plane_mm: float | None = None,
    min_size: tuple[int, int] | None = None,
) -> list[CaseScore]:
    """Predict each case and compare it with what the expert drew: one score a case and organ.

    Cases are taken one after another, so a generator that reads them from disk needs memory for one. As the
    validation of a training run, Dice alone is quick enough to be computed every epoch::

        validate=lambda model: mean_dice(evaluate_model(model, val_cases, labels, distances=False))

    Args:
        model: See `predict_case`.
        cases: With labels, each one.
        labels: Name of each organ by its label, background left out.
        distances: Whether surface distances are computed too, which takes most of the time.
        keep_largest: Whether `keep_largest_component` treats the prediction first.
        batch_size: See `predict_case`.
        spatial_dims: See `predict_case`.
        precision: See `predict_case`.
        in_plane_mm: See `predict_case`.
        min_size: See `predict_case`.

    Returns:
        The scores of all cases, in their order.

    Raises:
        ValueError: A case has no labels, or volumes hold labels without a name.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from torch import nn
        >>> from guided_attention.case import Case, affine_of
        >>> from guided_attention.evaluation import mean_dice
        >>> image = np.arange(15, dtype=np.float32).reshape(1, 1, 3, 5)
        >>> case = Case("7", image, np.zeros((1, 3, 5), np.uint8), affine_of((9.0, 1.5, 1.5)))
        >>> case.labels[image[0] > 7] = 1
        >>> threshold = nn.Conv2d(1, 2, kernel_size=1)
        >>> _ = threshold.weight.data.copy_(torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1))
        >>> _ = threshold.bias.data.copy_(torch.tensor([7.5, -7.5]))
        >>> mean_dice(evaluate_model(threshold, [case], {1: "liver"}, distances=False))
        1.0
    """
    scores: list[CaseScore] = []
    for case in cases:
        _labels_of(case)  # an error here costs less than one after the prediction
        prediction = predict_case(
            model,
            case,
            batch_size=batch_size,
            spatial_dims=spatial_dims,
            precision=precision,
            in_plane_mm=in_plane_mm,
            min_size=min_size,
        )
        if keep_largest:
            prediction = replace(prediction, labels=keep_largest_component(prediction.labels))
        scores += evaluate_prediction(prediction, case, labels, distances=distances)
    return scores


def _labels_of(case: Case) -> LabelVolume:
    if case.labels is None:
        raise ValueError(
            f"`case` must be a case with labels, got {case.case_id!r} without any. Leave it out."
        )
    return case.labels


def _batches(case: Case, batch_size: int, spatial_dims: SpatialDims) -> Iterator[tuple[slice, Tensor]]:
    """Give the slices of the volume that each batch fills, and the batch."""
    depth = case.image.shape[1]
    if spatial_dims == 3:  # noqa: PLR2004
        yield slice(0, depth), torch.from_numpy(np.ascontiguousarray(case.image[None]))
        return
    for start in range(0, depth, batch_size):
        part = slice(start, min(start + batch_size, depth))
        yield part, torch.from_numpy(np.ascontiguousarray(case.image[:, part].swapaxes(0, 1)))


class _Shown(NamedTuple):
    """How the network sees the slices of a case: how large, in a frame of what size, filled with what."""

    size: tuple[int, int]
    frame: tuple[int, int]
    fill: Tensor


def _shown(case: Case, in_plane_mm: float | None, min_size: tuple[int, int] | None) -> _Shown:
    """Count pixels as `resample_in_plane` does, and fill as `crop_or_pad` does."""
    height, width = case.image.shape[2:]
    if in_plane_mm is not None:
        height, width = (
            max(1, round(pixels * old / in_plane_mm))
            for pixels, old in zip(case.image.shape[2:], case.spacing_mm[1:], strict=True)
        )
    least = min_size or (1, 1)
    frame = (max(height, least[0]), max(width, least[1]))
    return _Shown((height, width), frame, torch.from_numpy(case.image.min(axis=(1, 2, 3))))


def _logits(model: nn.Module, image: Tensor, shown: _Shown) -> Tensor:
    """Show the network one batch as it knows slices; return logits at the image's own size."""
    size = tuple(image.shape[2:])
    seen = resize(image, (*size[:-2], *shown.size))
    starts = [(frame - inner) // 2 for frame, inner in zip(shown.frame, shown.size, strict=True)]
    rows, columns = (slice(start, start + inner) for start, inner in zip(starts, shown.size, strict=True))
    if shown.frame != shown.size:
        fill = shown.fill.to(seen.device).reshape(1, -1, *[1] * (seen.ndim - 2))
        framed = fill.repeat(len(seen), 1, *seen.shape[2:-2], *shown.frame)
        framed[..., rows, columns] = seen
        seen = framed
    logits: Tensor = model(seen)
    wanted, got = (len(seen), *seen.shape[2:]), (len(logits), *logits.shape[2:])
    require(got == wanted, "model(image)", f"of the image's batch and size {wanted}", got)
    classes = logits.shape[1]
    require(2 <= classes <= _MOST_CLASSES, "model(image)", f"of 2 to {_MOST_CLASSES} classes", classes)  # noqa: PLR2004
    return resize(logits[..., rows, columns].float(), size)


def _labels_and_uncertainty(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return both for one batch; the batch axis of a whole volume falls away."""
    probabilities = torch.softmax(logits, dim=1)
    # Rounding can carry the entropy a hair beyond its limits.
    entropy = torch.special.entr(probabilities).sum(dim=1) / math.log(logits.shape[1])
    cure = "Train again with a lower learning rate, or predict with precision='fp32'."
    require(not bool(entropy.isnan().any()), "model(image)", "finite", "NaN", cure=cure)
    labels, uncertainty = probabilities.argmax(dim=1).to(torch.uint8), entropy.clamp(0.0, 1.0)
    is_whole_volume = logits.ndim == 5  # noqa: PLR2004
    return (labels[0], uncertainty[0]) if is_whole_volume else (labels, uncertainty)


def _require_channels(model: nn.Module, case: Case) -> None:
    encoder = getattr(model, "encoder", None)
    wanted = getattr(model, "in_channels", getattr(encoder, "in_channels", None))
    got = case.image.shape[0]
    if isinstance(wanted, int):
        cure = "Read the case with the channels that the network was trained on."
        require(
            got == wanted,
            f"image of case {case.case_id!r}",
            f"of {wanted} channels, as the network wants",
            got,
            cure,
        )


def _device_of(model: nn.Module) -> torch.device:
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode, then give each module its own mode back: parts of a network may be frozen."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
