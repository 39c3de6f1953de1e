"""Predictor: a trained network with its preparation and its labels."""

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from guided_attention._checks import require, require_choice, require_type
from guided_attention._files import PathLike
from guided_attention._maps import chosen_device
from guided_attention._state_dicts import plain_network
from guided_attention._typing import SpatialDims
from guided_attention.case import Case
from guided_attention.errors import ArgumentError, ArgumentTypeError, DataError
from guided_attention.inference.ledger import LedgerEntry, predict_to
from guided_attention.inference.postprocess import keep_largest_component
from guided_attention.inference.saved import Knowledge, Precision, load_knowledge, save_knowledge
from guided_attention.inference.stream import stream
from guided_attention.inference.writing import ExtraFile, PredictionWriter
from guided_attention.labels import LabelSpec
from guided_attention.outputs import Prediction
from guided_attention.preparation import Preparation, Prepared
from guided_attention.preparation._values import whole
from guided_attention.preparation.preparation import require_channel_order

__all__ = ["Predictor"]


class Predictor:
    """A trained network with its preparation and its labels: a scan in, a label volume on the scan's own grid out.

    ::

        label(voxel)       = the class of the highest probability; of equal ones, the lowest class
        uncertainty(voxel) = - Σ_class p · log p / log(classes)

    Logits are interpolated to the scan's grid before both. Memory holds the scan, the prepared scan, the two volumes of
    the result and one batch.

    Args:
        model: Takes images ``(batch, in_channels, *space)`` to logits ``(batch, classes, *space)``.
        preparation: The preparation that the network was trained with, fitted.
        labels: Values and names of its classes.
        device: A torch device, ``"auto"`` for a GPU if there is one, or None for the device of the network. The network
            is moved there.
        batch_size: Slices that go through the network at once; for 3-D networks the volume is one batch.
        precision: ``"fp32"`` or ``"bf16"``.
        keep_largest: Whether only the largest connected component of each organ is kept.
        spatial_dims: 2 for a network of slices, 3 for one of volumes; None takes ``model.spatial_dims``, or 2 where the
            network does not tell.

    Raises:
        ArgumentError: Classes or channels of network, labels and preparation differ, the preparation is not fitted, the
            device does not exist, or a number is out of range.
        ArgumentTypeError: A part has the wrong type.

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

    def __init__(
        self,
        model: nn.Module,
        preparation: Preparation,
        labels: LabelSpec,
        *,
        device: torch.device | str | None = "auto",
        batch_size: int = 8,
        precision: Precision = "fp32",
        keep_largest: bool = False,
        spatial_dims: SpatialDims | None = None,
    ) -> None:
        require_type("model", model, nn.Module, "a torch.nn.Module")
        require_type("preparation", preparation, Preparation, "a Preparation")
        require_type("labels", labels, LabelSpec, "a LabelSpec")
        self.batch_size = whole("batch_size", batch_size, least=1)
        require_type("keep_largest", keep_largest, bool, "True or False")
        require_choice("precision", precision, get_args(Precision))
        require(preparation.slice_axis is not None, "preparation", "fitted", "one without a slice axis", _FIT)
        self.model, self.preparation, self.labels = model, preparation, labels
        self.precision, self.keep_largest = precision, keep_largest
        self.spatial_dims = _checked_dims(model, spatial_dims)
        self._check_fit()
        self.device = chosen_device(model, device)
        model.to(self.device)

    def _check_fit(self) -> None:
        classes = getattr(plain_network(self.model), "num_classes", None)
        if isinstance(classes, int):
            wanted = f"of {classes} classes, as the network"
            require(self.labels.num_classes == classes, "labels", wanted, self.labels.num_classes)
        channels = self._network_channels
        if channels is not None and self.preparation.fingerprint is not None:
            got = self.preparation.in_channels
            require(got == channels, "preparation", f"one of {channels} channels, as the network", got)
        joined = self.preparation.neighbours
        good = self.spatial_dims != _VOLUME or joined == 0
        require(good, "preparation.neighbours", "0 for a 3-D network", joined)

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
            ArgumentError: The network does not return logits of the size and the classes expected, or NaN.

        Warns:
            SpacingWarning, IntensityWarning: The scan is unlike those that the preparation was fitted on.
        """
        prepared = self._prepared(case)
        labels = np.empty(prepared.grid.scan_shape, np.min_scalar_type(self.labels.values[-1]))
        uncertainty = np.empty(labels.shape, np.float32)
        views = [prepared.grid.turn.apply(volume) for volume in (labels, uncertainty)]
        for part, scores in self._scores(prepared):
            probabilities = torch.softmax(scores, dim=0)
            views[0][part] = self.labels.to_values(_classes(probabilities))
            views[1][part] = _entropy(probabilities).cpu().numpy()
        if self.keep_largest:
            labels = keep_largest_component(labels)
        return Prediction(case.case_id, labels, uncertainty, case.affine.copy(), case.source)

    def probabilities(self, case: Case) -> npt.NDArray[np.float32]:
        """Return the probability of each class ``(classes, depth, height, width)`` on the scan's own grid.

        Args:
            case: A scan, as its reader returns it.

        Raises:
            DataError, ArgumentError: As `predict`.
        """
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
            resume: Continue in a folder that an earlier call has begun: cases whose files are complete are skipped,
                failed ones are tried again, drafts of a killed process are removed.
            overwrite: Discard what an earlier call has written.
            on_case: Called with the entry of each case when it is settled, for example to show progress.

        Returns:
            One entry a case, in their order: done, skipped or failed, with files or error.

        Raises:
            ExistingFileError: The folder holds predictions, and neither `resume` nor `overwrite` is set.
            DataError: With `resume`, the folder was begun with another network or preparation.
        """
        writer = PredictionWriter(tuple(also), self.labels)
        return predict_to(
            self.predict,
            cases,
            folder,
            writer=writer,
            identity=self._identity(),
            resume=resume,
            overwrite=overwrite,
            on_case=on_case,
        )

    def with_model(self, model: nn.Module) -> "Predictor":
        """Return a predictor of another network with all else equal; the network stays on its device."""
        return Predictor(
            model,
            self.preparation,
            self.labels,
            device=None,
            batch_size=self.batch_size,
            precision=self.precision,
            keep_largest=self.keep_largest,
            spatial_dims=self.spatial_dims,
        )

    @property
    def metadata(self) -> dict[str, Any]:
        """All except the weights as plain values: pass it to `Trainer`, which writes it into every checkpoint."""
        return self._knowledge.to_dict(self.model)

    @property
    def _knowledge(self) -> Knowledge:
        numbers = (self.batch_size, self.precision, self.keep_largest, self.spatial_dims)
        return Knowledge(self.preparation, self.labels, *numbers)

    def save(self, folder: PathLike) -> None:
        """Save network, preparation and labels into a new folder, from which `load` makes the same predictor.

        Args:
            folder: New or empty.

        Raises:
            ExistingFileError: The folder holds something.
            ArgumentError: The network has parts of your own and cannot be rebuilt from numbers: see `save_pretrained`.
        """
        save_knowledge(folder, self.model, self._knowledge)

    @classmethod
    def load(
        cls, path: PathLike, *, device: torch.device | str | None = "auto", model: nn.Module | None = None
    ) -> "Predictor":
        """Load a predictor from a run folder, a checkpoint, or a folder of `save`.

        Args:
            path: A folder that `save` wrote, the run folder of a `Trainer` (its ``best.pt`` is used), or a checkpoint.
            device: See `Predictor`.
            model: For a network with parts of your own: the network, built as for training. Its weights are loaded.

        Raises:
            MissingFileError: There is no such file or folder.
            CheckpointError: The file is damaged, or holds weights without metadata.
        """
        network, knowledge = load_knowledge(path, model)
        return cls(
            network,
            knowledge.preparation,
            knowledge.labels,
            device=device,
            batch_size=knowledge.batch_size,
            precision=knowledge.precision,
            keep_largest=knowledge.keep_largest,
            spatial_dims=knowledge.spatial_dims,
        )

    def _identity(self) -> str:
        """Return a hash of weights and settings, by which a folder of predictions is known as this predictor's."""
        return self._knowledge.identity(self.model)

    @property
    def _network_channels(self) -> int | None:
        channels = getattr(plain_network(self.model), "in_channels", None)
        return channels if isinstance(channels, int) else None

    def _prepared(self, case: Case) -> Prepared:
        prepared = self.preparation.apply(case)
        require_channel_order(self.preparation, case)
        wanted, got = self._network_channels, len(prepared.image) * (2 * self.preparation.neighbours + 1)
        where, cure = f"image of case {case.case_id!r}", "Read the channels that the network was trained on."
        good = wanted is None or got == wanted
        require(good, where, f"of {wanted} channels, as the network", got, cure, error=DataError)
        return prepared

    def _scores(self, prepared: Prepared) -> Iterator[tuple[tuple[slice, ...], Tensor]]:
        """Give the logits on the scan's grid, a few slices at a time."""
        enabled = self.precision == "bf16"
        with (
            _evaluating(self.model),
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled),
        ):
            yield from prepared.restored(self._logits(prepared))

    def _logits(self, prepared: Prepared) -> Iterator[Tensor]:
        """Give ``(classes, slices, height, width)`` of consecutive slices."""
        if self.spatial_dims == _VOLUME:
            yield self._checked_logits(torch.from_numpy(prepared.image)[None])[0]
            return
        depth = prepared.image.shape[1]
        for start in range(0, depth, self.batch_size):
            batch = prepared.slices(start, min(start + self.batch_size, depth))
            yield self._checked_logits(batch).transpose(0, 1)

    def _checked_logits(self, images: Tensor) -> Tensor:
        logits = _called(self.model, images.to(self.device))
        classes = self.labels.num_classes
        wanted = (len(images), classes, *images.shape[2:])
        got = tuple(logits.shape)
        require(got == wanted, "model(images)", f"logits of shape (batch, classes, *size), {wanted}", got)
        require(logits.is_floating_point(), "model(images)", "floating-point logits", logits.dtype)
        single = logits.float()
        cure = "Look at the weights: train again with a lower learning rate."
        if self.precision == "bf16":
            cure = "Predict with precision='fp32', or train again with a lower learning rate."
        require(bool(single.isfinite().all()), "model(images)", "finite", "NaN or infinite logits", cure)
        return single


_VOLUME: Final = 3
_BYTE = 256
_FIT = "Call `Preparation.fit` on the training cases, or name its `slice_axis`."


def _checked_dims(model: nn.Module, given: SpatialDims | None) -> SpatialDims:
    known = getattr(plain_network(model), "spatial_dims", None)
    if given is not None:
        require_choice("spatial_dims", given, (2, 3))
        agrees = known not in {2, 3} or known == given
        require(agrees, "spatial_dims", f"that of the network, {known}", given)
        return given
    return _VOLUME if known == _VOLUME else 2


def _called(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of a batch; an error of the network is raised as one that names the input shape."""
    try:
        logits: object = model(images)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:
        others = {p.dtype for p in model.parameters() if p.is_floating_point()} - {images.dtype}
        cure = "If it needs sides that are multiples of a number, set `multiple` in the Preparation."
        if others and not torch.is_autocast_enabled(images.device.type):
            cure = "Its weights are of another number type than images: call model.float() first."
        message = (
            f"`model` must take images of shape {tuple(images.shape)}, got an error from it: {error}. {cure}"
        )
        raise ArgumentError(message, argument="model") from error
    if not isinstance(logits, Tensor):
        kind = type(logits).__name__
        message = (
            f"`model(images)` must be a tensor of logits, got a {kind}. Wrap the network to return them."
        )
        raise ArgumentTypeError(message, argument="model")
    return logits


def _classes(probabilities: Tensor) -> npt.NDArray[np.integer[Any]]:
    dtype = torch.uint8 if len(probabilities) <= _BYTE else torch.int32
    narrow: npt.NDArray[np.integer[Any]] = probabilities.argmax(dim=0).to(dtype).cpu().numpy()
    return narrow


def _entropy(probabilities: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(probabilities).sum(dim=0) / math.log(len(probabilities))
    # Rounding can carry the entropy slightly beyond its limits.
    return entropy.clamp(0.0, 1.0)


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
