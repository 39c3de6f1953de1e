"""Predictor: a trained network with its preparation and its labels."""

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from guided_attention._checks import counted, require
from guided_attention._files import PathLike
from guided_attention._maps import chosen_device
from guided_attention._typing import SpatialDims
from guided_attention.case import Case
from guided_attention.errors import DataError
from guided_attention.inference.folder import existing_of, predict_to
from guided_attention.inference.knowledge import Knowledge, Precision
from guided_attention.inference.ledger import LedgerEntry
from guided_attention.inference.members import (
    common_number,
    dims_of_convolutions,
    evaluating,
    mean_logits,
    members_of,
    set_evaluation,
)
from guided_attention.inference.mirrors import MirrorAxis, mean_over_mirrors, mirrors_of
from guided_attention.inference.postprocess import PostProcessing
from guided_attention.inference.saved import load_knowledge, save_knowledge
from guided_attention.inference.shard import Shard
from guided_attention.inference.stream import stream, within_memory
from guided_attention.inference.windows import Windows
from guided_attention.inference.writing import ExtraFile, PredictionWriter
from guided_attention.labels import LabelSpec
from guided_attention.models.pretrained import rebuildable
from guided_attention.outputs import Prediction
from guided_attention.preparation import Preparation, Prepared
from guided_attention.preparation.preparation import require_channel_order

__all__ = ["Predictor"]


@dataclass(eq=False, repr=False)
class Predictor:
    """A trained network with its preparation and its labels: a scan in, a label volume on the scan's own grid out.

    ::

        label(voxel)       = the class of the highest probability; of equal ones, the lowest class
        uncertainty(voxel) = - Σ_class p · log p / log(classes)

    Logits are interpolated to the scan's grid before both. Memory holds the scan, the prepared scan, the two volumes of
    the result, and one batch or, with windows, the slices that later windows still change.

    Threads may share a predictor, and predictors a network. All but networks and device may be set later.

    Args:
        model: Takes images ``(batch, in_channels, *space)`` to logits ``(batch, classes, *space)``. A list of networks
            or a ``ModuleList`` is an ensemble, whose logits are averaged; the attribute `members` has them all.
        preparation: The preparation that the network was trained with, fitted.
        labels: Values and names of its classes.
        device: A torch device, ``"auto"`` for a GPU if there is one, or None for the device of the network. The network
            is moved there.
        batch_size: Slices or windows that go through the network at once.
        precision: ``"fp32"`` or ``"bf16"``, which networks of volumes have on GPUs only.
        spatial_dims: 2 for a network of slices, 3 for one of volumes; None takes ``model.spatial_dims``, or
            that of the network's convolutions where it has no such attribute, or 2 where they do not tell.
        patch_size: Size of the sliding windows, ``(height, width)`` or ``(depth, height, width)``; None predicts whole
            slices, or the whole volume at once. Weights are Gaussian; see `guided_attention.inference.windows`.
        overlap: Share of a window that the next one covers again, from 0 to below 1.
        mirror_axes: Axes of ``"depth"``, ``"height"`` and ``"width"``, the last two for slices. The logits are averaged
            over all mirrored copies, two to the power of the number of axes.
        postprocess: What is corrected in the label volume.

    Raises:
        ArgumentError: Classes or channels of networks, labels and preparation differ, the preparation is not fitted,
            the device does not exist, or a number is out of range.
        ArgumentTypeError: A part has the wrong type.
        DataError: Mirrors exchange left and right, and an organ named left or right has no mate in `LabelSpec.pairs`.

    Example:
        >>> from guided_attention import MSGA
        >>> from guided_attention.data import CHAOS_MR_LABELS, make_phantom
        >>> case = make_phantom(0, size=32)
        >>> preparation = Preparation(slice_axis="axial").fit([case])
        >>> predictor = Predictor(MSGA(encoder="resnet18", channels=8), preparation, CHAOS_MR_LABELS, device="cpu")
        >>> prediction = predictor.predict(case)
        >>> prediction.labels.shape == case.labels.shape, prediction.labels.dtype
        (True, dtype('uint8'))
    """

    model: nn.Module | Sequence[nn.Module]
    preparation: Preparation
    labels: LabelSpec
    _: KW_ONLY
    device: torch.device | str | None = "auto"
    batch_size: int = 8
    precision: Precision = "fp32"
    spatial_dims: SpatialDims | None = None
    patch_size: Sequence[int] | None = None
    overlap: float = 0.5
    mirror_axes: Sequence[MirrorAxis] = ()
    postprocess: PostProcessing = field(default_factory=PostProcessing)
    members: nn.ModuleList = field(init=False)

    def __post_init__(self) -> None:
        """Check that the parts fit together, and move the networks to the device."""
        self.members = members_of(self.model)
        self.spatial_dims = _checked_dims(self.members, self.spatial_dims)
        vars(self).update(vars(self._knowledge))  # as checked, with tuples in place of lists
        self._check_fit()
        vars(self)["device"] = chosen_device(self.members, self.device)
        self.members.to(self.device)

    def __setattr__(self, name: str, value: object) -> None:
        """Set a value, but for those that were checked and moved when the predictor was made."""
        good, cure = name not in _FIXED or name not in vars(self), _FIXED.get(name, "")
        require(good, name, "what the predictor was made with", f"another {name}", cure)
        super().__setattr__(name, value)

    def _check_fit(self) -> None:
        classes, channels = (common_number(self.members, name) for name in ("num_classes", "in_channels"))
        if classes is not None:
            wanted = f"of {counted(classes, 'class', 'classes')}, as the network"
            require(self.labels.num_classes == classes, "labels", wanted, self.labels.num_classes)
        if channels is not None and self.preparation.fingerprint is not None:
            got = self.preparation.in_channels
            require(
                got == channels, "preparation", f"one of {counted(channels, 'channel')}, as the network", got
            )

    def __call__(self, case: Case) -> Prediction:
        """Return `predict` of a case."""
        return self.predict(case)

    def predict(self, case: Case) -> Prediction:
        """Predict the organs of one scan, and the uncertainty of each voxel.

        Args:
            case: A scan, as its reader returns it; its labels are not used.

        Returns:
            Labels, with the values of the `LabelSpec`, and uncertainty, on the scan's own grid.

        Raises:
            DataError: The scan has other channels than the network was trained on.
            ArgumentError: The network does not return logits of the size and the classes expected, or NaN; or the scan
                does not fit into memory.

        Warns:
            SpacingWarning, IntensityWarning: The scan is unlike those that the preparation was fitted on.
        """
        return within_memory(self._predict, case)

    def _predict(self, case: Case) -> Prediction:
        prepared = self._prepared(case)
        labels = np.empty(prepared.grid.scan_shape, np.min_scalar_type(self.labels.values[-1]))
        uncertainty = np.empty(labels.shape, np.float32)
        views = [prepared.grid.turn.apply(volume) for volume in (labels, uncertainty)]
        for part, scores in self._scores(prepared):
            probabilities = torch.softmax(scores, dim=0)
            views[0][part] = self.labels.to_values(_classes(probabilities))
            views[1][part] = _entropy(probabilities).cpu().numpy()
        labels = self.postprocess.apply(labels)
        return Prediction(case.case_id, labels, uncertainty, case.affine.copy(), case.source)

    def probabilities(self, case: Case) -> npt.NDArray[np.float32]:
        """Return the probability of each class ``(classes, depth, height, width)`` on the scan's own grid.

        Args:
            case: A scan, as its reader returns it.

        Raises:
            DataError, ArgumentError: As `predict`.
        """
        return within_memory(self._probabilities, case)

    def _probabilities(self, case: Case) -> npt.NDArray[np.float32]:
        prepared = self._prepared(case)
        out = np.empty((self.labels.num_classes, *prepared.grid.scan_shape), np.float32)
        view = prepared.grid.turn.apply(out)
        for part, scores in self._scores(prepared):
            view[(slice(None), *part)] = torch.softmax(scores, dim=0).cpu().numpy()
        return out

    def stream(self, cases: Iterable[Case]) -> Generator[Prediction, None, None]:
        """Predict one case after another, and read the next one meanwhile.

        Reading overlaps with prediction if `cases` is a generator. Memory holds one case ahead. You can stop at any
        time; no thread is left.

        Args:
            cases: What to predict, such as ``(read_nifti_case(path) for path in paths)``.

        Yields:
            One prediction a case, in their order.

        Raises:
            DataError, ArgumentError: As `predict`, with a note that names the case.
        """
        return stream(self.predict, cases)

    def predict_to(
        self,
        folder: PathLike,
        cases: Iterable[Case | Callable[[], Case]],
        *,
        also: Sequence[ExtraFile] = (),
        resume: bool = False,
        overwrite: bool = False,
        shard: Shard | None = None,
        on_case: Callable[[LedgerEntry], None] | None = None,
    ) -> list[LedgerEntry]:
        """Predict many cases into a folder, with a ledger of what is done.

        Files are ``<case_id>_prediction.nii.gz``, with ``<case_id>_uncertainty.nii.gz`` if asked for, and
        ``ledger.jsonl``, which has one line a case. One bad case is listed there, and the others are done.

        Args:
            folder: Where to write; created where it is missing.
            cases: Cases, or functions without arguments that read one, such as ``partial(read_nifti_case, path)``: an
                error in such a function fails its case only.
            also: Other files to write: see `save_prediction`.
            resume: Continue in a folder that an earlier call has begun, with any `batch_size`: cases whose files are
                complete are skipped, failed ones are tried again, drafts of a killed process are removed. Files of
                the names that it writes are replaced, whoever wrote them.
            overwrite: Discard what an earlier call has written: the files that the ledger names, and those of `cases`.
            shard: The part of the cases to predict, into a folder within `folder`, for `merge_shards`: several
                processes have one each. Pass functions that read a case, so that those of other shards are not read.
            on_case: Called with the entry of each case when it is settled, for example to show progress.

        Returns:
            One entry a case, in their order: done, skipped or failed, with files or error.

        Raises:
            ExistingFileError: The folder holds predictions, and neither `resume` nor `overwrite` is set; or it holds
                files of such names that its ledger does not name.
            DataError: With `resume`, the folder was begun with another network or preparation; or it holds shards of
                another number.
        """
        writer = PredictionWriter(also, self.labels)
        return predict_to(
            self.predict,
            cases,
            folder,
            writer=writer,
            identity=self._identity(),
            existing=existing_of(resume=resume, overwrite=overwrite),
            shard=shard,
            on_case=on_case,
        )

    def with_model(self, model: nn.Module | Sequence[nn.Module]) -> "Predictor":
        """Return a predictor of another network, or of an ensemble, with all else equal; it stays on its device."""
        return replace(self, model=model, device=None)

    @property
    def metadata(self) -> dict[str, Any]:
        """All except the weights as plain values: pass it to `Trainer`, which writes it into every checkpoint.

        A network that was changed after its builder made it counts as one of your own: `load` needs it as `model`.
        """
        return self._knowledge.to_dict(self.members, rebuildable)

    @property
    def _knowledge(self) -> Knowledge:
        return Knowledge(**{name: getattr(self, name) for name in Knowledge.__dataclass_fields__})

    def save(self, folder: PathLike) -> None:
        """Save networks, preparation and labels into a new folder, from which `load` makes the same predictor.

        Args:
            folder: New or empty.

        Raises:
            ExistingFileError: The folder holds something.
            ArgumentError: A network has parts of your own and cannot be rebuilt from numbers: see `save_pretrained`.
        """
        save_knowledge(folder, self.members, self._knowledge)

    @classmethod
    def load(
        cls,
        path: PathLike,
        *,
        device: torch.device | str | None = "auto",
        model: nn.Module | Sequence[nn.Module] | None = None,
    ) -> "Predictor":
        """Load a predictor from a run folder, a checkpoint, or a folder of `save`, with networks in evaluation mode.

        Args:
            path: A folder that `save` wrote, the run folder of a `Trainer` (its ``best.pt`` is used), a finalized run
                of folds (its ensemble is used), or a checkpoint.
            device: See `Predictor`.
            model: For a network with parts of your own: the network, built as for training, whose weights are loaded.
                For an ensemble, a list of its networks.

        Raises:
            MissingFileError: There is no such file or folder, or folds are not finalized.
            CheckpointError: The file is damaged, or holds weights without metadata; or folds have changed since their
                ensemble was made.
        """
        members, known = load_knowledge(path, model)
        set_evaluation(members)
        return cls(
            members[0] if len(members) == 1 else list(members),
            known.preparation,
            known.labels,
            device=device,
            batch_size=known.batch_size,
            precision=known.precision,
            spatial_dims=known.spatial_dims,
            patch_size=known.patch_size,
            overlap=known.overlap,
            mirror_axes=known.mirror_axes,
            postprocess=known.postprocess,
        )

    def _identity(self) -> str:
        """Return a hash of all that labels depend on, by which a folder of predictions is known as this one's."""
        return self._knowledge.identity(self.members)

    def _prepared(self, case: Case) -> Prepared:
        prepared = self.preparation.apply(case)
        require_channel_order(self.preparation, case)
        wanted = common_number(self.members, "in_channels")
        got = len(prepared.image) * (2 * self.preparation.neighbours + 1)
        where, cure = f"image of case {case.case_id!r}", "Read the channels that the network was trained on."
        if wanted is not None:
            named = f"of {counted(wanted, 'channel')}, as the network"
            require(got == wanted, where, named, got, cure, error=DataError)
        return prepared

    def _scores(self, prepared: Prepared) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
        """Give the logits on the scan's grid, a few slices at a time."""
        device = chosen_device(self.members, None)
        # On a CPU torch's convolutions of volumes are wrong in bfloat16: see `require_precision` of the training.
        fits = self.spatial_dims != _VOLUME or device.type != "cpu"
        enabled = self.precision == "bf16" and fits
        with (
            evaluating(self.members),
            torch.no_grad(),  # not inference_mode: what a network keeps from here could not be trained with
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled),
        ):
            yield from prepared.restored(self._logits(prepared, device))

    def _logits(self, prepared: Prepared, device: torch.device) -> Iterator[Tensor]:
        """Give ``(classes, slices, height, width)`` of consecutive slices."""
        classes, depth = self.labels.num_classes, prepared.image.shape[1]
        mirrors = mirrors_of(self.mirror_axes, self._knowledge.exchanged_pairs, classes)
        networks = partial(mean_logits, self.members, classes=classes)

        def predict(images: Tensor) -> Tensor:
            return mean_over_mirrors(networks, mirrors, images.to(device))

        if self.patch_size is not None:
            size = (1, *self.patch_size)[-3:]
            windows = Windows((size[0], size[1], size[2]), self.overlap, self.batch_size)
            yield from windows.logits(prepared, predict, is_volume=self.spatial_dims == _VOLUME)
        elif self.spatial_dims == _VOLUME:
            yield predict(torch.from_numpy(prepared.image)[None])[0]
        else:
            for start in range(0, depth, self.batch_size):
                yield predict(prepared.slices(start, min(start + self.batch_size, depth))).transpose(0, 1)


_OTHER_NETWORK: Final = "Make another predictor: predictor.with_model(model)."
_FIXED: Final = {
    "model": _OTHER_NETWORK,
    "members": _OTHER_NETWORK,
    "device": "Make another predictor: dataclasses.replace(predictor, device=device).",
}
"""What of a predictor cannot be set, and how to change it."""
_VOLUME: Final = 3
_BYTE = 256


def _checked_dims(members: nn.ModuleList, given: SpatialDims | None) -> SpatialDims:
    known = common_number(members, "spatial_dims")
    if given is not None:
        agrees = known not in {2, 3} or known == given
        require(agrees, "spatial_dims", f"that of the network, {known}", given)
        return given
    return _VOLUME if (known or dims_of_convolutions(members)) == _VOLUME else 2


def _classes(probabilities: Tensor) -> npt.NDArray[np.integer[Any]]:
    dtype = torch.uint8 if len(probabilities) <= _BYTE else torch.int32
    narrow: npt.NDArray[np.integer[Any]] = probabilities.argmax(dim=0).to(dtype).cpu().numpy()
    return narrow


def _entropy(probabilities: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(probabilities).sum(dim=0) / math.log(len(probabilities))
    # Rounding can carry the entropy slightly beyond its limits.
    return entropy.clamp(0.0, 1.0)
