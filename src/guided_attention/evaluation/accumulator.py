"""Scores collected over a run: volumes or single slices, in any order, on any number of processes."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from guided_attention import _distributed
from guided_attention._checks import counted, require, require_same_shape, require_type
from guided_attention._typing import AnyLabels, LabelArray, Numbers
from guided_attention.errors import GuidedAttentionError
from guided_attention.evaluation.scores import (
    CaseScore,
    boxes_of_values,
    evaluate_case,
    require_definition,
    require_label_spec,
)
from guided_attention.labels import LabelSpec
from guided_attention.metrics import DistanceDefinition
from guided_attention.metrics._inputs import as_labels, as_lengths, as_whole, as_workers

__all__ = ["CaseAccumulator"]

_Spacing: TypeAlias = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class _Scored:
    """A whole volume: its rows, and a fingerprint to tell a repetition from another volume of that name."""

    rows: list[CaseScore]
    fingerprint: str


@dataclass(frozen=True, eq=False)
class _Slice:
    """A slice that waits for the others of its case."""

    prediction: LabelArray
    reference: LabelArray
    spacing_mm: _Spacing
    fingerprint: str


@dataclass(frozen=True)
class _Held:
    """What a process tells the others of what it holds: names and fingerprints, no voxels."""

    volumes: dict[str, str]
    slices: dict[str, dict[int, str]]
    clashes: list[str]


class CaseAccumulator:
    """Collect predictions over an evaluation, and score each case as one volume at its end.

    A network for slices gives slices, often in no order and on several processes; the score of a slice is not the score
    of a case. This keeps the slices of each case until `compute` puts them together by their index. A whole volume is
    scored at once, and only its rows are kept.

    Where ``torch.distributed`` is initialised, `compute` gathers from all processes, so that every process must call
    it. Rows and names travel; the slices of a case travel only where the case lies on several processes, and then only
    to the one that scores it. A case or slice that came twice with the same content counts once: the sampler of
    distributed training repeats some to give every process the same number.

    Args:
        labels: The organs and their values.
        spacing_mm: Distance between voxel centres in millimetres, (z, y, x), for all cases for which `update` gets
            none.
        definition: How surface distances are measured; None leaves them out.
        workers: Threads that search for the nearest points; -1 for all cores.

    Raises:
        ArgumentError: A spacing is not above 0.
        ArgumentTypeError: An argument has the wrong type.

    Example:
        >>> import numpy as np
        >>> collected = CaseAccumulator(LabelSpec({1: "liver"}), spacing_mm=(9.0, 1.5, 1.5))
        >>> for z in (1, 0, 2):
        ...     collected.update(np.eye(5, dtype=int), np.eye(5, dtype=int), case_id="7", slice_index=z)
        >>> [(row.case_id, row.organ, row.dice) for row in collected.compute()]
        [('7', 'liver', 1.0)]
    """

    def __init__(
        self,
        labels: LabelSpec,
        *,
        spacing_mm: Numbers | None = None,
        definition: DistanceDefinition | None = DistanceDefinition(),
        workers: int = 1,
    ) -> None:
        require_label_spec(labels)
        require_definition(definition)
        self._labels, self._definition = labels, definition
        self._spacing_mm = None if spacing_mm is None else as_lengths(spacing_mm)
        self._workers = as_workers(workers)
        self.reset()

    def reset(self) -> None:
        """Forget all cases."""
        self._volumes: dict[str, _Scored] = {}
        self._slices: dict[str, dict[int, _Slice]] = defaultdict(dict)
        self._clashes: list[str] = []

    def update(
        self,
        prediction: AnyLabels,
        reference: AnyLabels,
        *,
        case_id: str,
        slice_index: int | None = None,
        spacing_mm: Numbers | None = None,
    ) -> None:
        """Take one case, or one slice of it.

        Args:
            prediction: Predicted values, not logits: an array or a tensor on any device, ``(depth, height, width)``, or
                ``(height, width)`` for a slice or an image.
            reference: Values of the reference, same shape.
            case_id: Name of the case.
            slice_index: Which slice of the case it is, along the first axis; None for a whole case. Indices may start
                anywhere, but none may be missing in between.
            spacing_mm: Spacing of this case, (z, y, x) even for a slice; None for that of the accumulator.

        Raises:
            ArgumentError: Shapes differ, the arrays are not of integers, there is no spacing, a slice has not 2 axes,
                or `evaluate_case` refuses the case.
            ArgumentTypeError: An argument has the wrong type.
            DataError: A volume holds a value that `labels` does not name.
        """
        require_type("case_id", case_id, str, "a text")
        cure = "Take the arg-max of logits, or `.astype(int)` of whole numbers."
        found, expected = as_labels("prediction", prediction, cure), as_labels("reference", reference, cure)
        require_same_shape("prediction", found.shape, "reference", expected.shape)
        given = self._spacing_mm if spacing_mm is None else as_lengths(spacing_mm)
        cure = "Pass it here or to the accumulator."
        require(given is not None, "spacing_mm", f"given for case {case_id!r}", spacing_mm, cure=cure)
        lengths: _Spacing = given or ()
        fingerprint = _fingerprint(found, expected, lengths)
        if slice_index is None:
            self._take_volume(case_id, found, expected, lengths, fingerprint)
            return
        index = as_whole("slice_index", slice_index, 0)
        wanted = "of 2 axes where `slice_index` is given"
        require(found.ndim == 2, "prediction", wanted, counted(found.ndim, "axis", "axes"))  # noqa: PLR2004
        as_lengths(lengths, 3)
        for argument, array in (("prediction", found), ("reference", expected)):
            boxes_of_values(f"{argument} of slice {index} of case {case_id!r}", array, self._labels)
        held = self._slices[case_id].get(index)
        if held is None:
            self._slices[case_id][index] = _Slice(found.copy(), expected.copy(), lengths, fingerprint)
        elif held.fingerprint != fingerprint:
            self._clashes.append(f"slice {index} of case {case_id!r}")

    def _take_volume(
        self, case_id: str, prediction: LabelArray, reference: LabelArray, lengths: _Spacing, fingerprint: str
    ) -> None:
        held = self._volumes.get(case_id)
        if held is None:
            self._volumes[case_id] = _Scored(self._rows(case_id, prediction, reference, lengths), fingerprint)
        elif held.fingerprint != fingerprint:
            self._clashes.append(f"case {case_id!r}")

    def compute(self) -> list[CaseScore]:
        """Score what was collected, on all processes together.

        It changes nothing: more may come afterwards, and a second call gives the same.

        Returns:
            The rows of all cases, the cases sorted by name, the organs in the order of ``labels.values``; the same on
            every process. Without a case, an empty list.

        Raises:
            ArgumentError: A case or slice came twice with different content, as slices and as a volume, with gaps
                between its slices, or with slices of different shape or spacing. All processes raise it.
        """
        held = _distributed.from_all(self._held())
        _require_whole(held)  # every process sees the same, so all raise or none
        scorers = _scorers([process.slices for process in held])
        rows: list[CaseScore] = []
        refused: GuidedAttentionError | None = None
        try:
            for case_id, slices in self._brought_together(scorers).items():
                rows += self._rows_of_slices(case_id, slices)
        except GuidedAttentionError as error:
            refused = error  # raised below, by all: the others would wait for this one's rows forever
        mine = [row for volume in self._volumes.values() for row in volume.rows]
        answers = _distributed.from_all((refused, mine + rows))
        for refusal, _ in answers:
            if refusal is not None:
                raise refusal
        place = {organ: index for index, organ in enumerate(self._labels.names.values())}
        once = {(row.case_id, place[row.organ]): row for _, part in answers for row in part}
        return [once[key] for key in sorted(once)]

    def _held(self) -> _Held:
        return _Held(
            {case_id: volume.fingerprint for case_id, volume in self._volumes.items()},
            {
                case_id: {index: part.fingerprint for index, part in slices.items()}
                for case_id, slices in self._slices.items()
            },
            self._clashes,
        )

    def _brought_together(self, scorers: Mapping[str, int]) -> dict[str, dict[int, _Slice]]:
        """Return the cases that this process scores, with the slices that lay elsewhere."""
        rank = _distributed.rank()
        cases = {
            case_id: dict(self._slices.get(case_id, {})) for case_id, to in scorers.items() if to == rank
        }
        for receiver in range(_distributed.world_size()):
            leaving = {
                case_id: slices
                for case_id, slices in self._slices.items()
                if scorers[case_id] == receiver and receiver != rank
            }
            for arrived in _distributed.to_one(leaving, receiver):
                for case_id, slices in arrived.items():
                    cases[case_id].update(slices)
        return cases

    def _rows_of_slices(self, case_id: str, slices: Mapping[int, _Slice]) -> list[CaseScore]:
        ordered = [slices[index] for index in sorted(slices)]
        spacings, shapes = {part.spacing_mm for part in ordered}, {part.prediction.shape for part in ordered}
        require(len(spacings) == 1, "spacing_mm", f"one for all slices of case {case_id!r}", sorted(spacings))
        wanted = f"of one shape in all slices of case {case_id!r}"
        require(len(shapes) == 1, "prediction", wanted, sorted(shapes))
        prediction = np.stack([part.prediction for part in ordered])
        reference = np.stack([part.reference for part in ordered])
        return self._rows(case_id, prediction, reference, ordered[0].spacing_mm)

    def _rows(
        self, case_id: str, prediction: LabelArray, reference: LabelArray, lengths: _Spacing
    ) -> list[CaseScore]:
        return evaluate_case(
            prediction,
            reference,
            labels=self._labels,
            spacing_mm=lengths,
            case_id=case_id,
            definition=self._definition,
            workers=self._workers,
        )


def _fingerprint(prediction: LabelArray, reference: LabelArray, lengths: _Spacing) -> str:
    """Return a short text that differs where volumes, shapes, types or spacings do."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (prediction, reference):
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).data)
    digest.update(repr(lengths).encode())
    return digest.hexdigest()


def _require_whole(held: Sequence[_Held]) -> None:
    """Raise where a case cannot be scored, as the names and fingerprints of all processes show."""
    clashes = [clash for process in held for clash in process.clashes]
    volumes: dict[str, str] = {}
    slices: dict[str, dict[int, str]] = defaultdict(dict)
    for process in held:
        for case_id, fingerprint in process.volumes.items():
            if volumes.setdefault(case_id, fingerprint) != fingerprint:
                clashes.append(f"case {case_id!r}")
        for case_id, indices in process.slices.items():
            for index, fingerprint in indices.items():
                if slices[case_id].setdefault(index, fingerprint) != fingerprint:
                    clashes.append(f"slice {index} of case {case_id!r}")
    cure = "Give cases that were evaluated more than once different ids, or reset() in between. What a sampler repeats "
    cure += "must be left out where the network rounds otherwise in another batch."
    listed = ", ".join(dict.fromkeys(clashes))
    require(not clashes, "case_id", "of one content each", f"two for {listed}", cure=cure)
    both = sorted(volumes.keys() & slices.keys())
    require(not both, "case_id", "given as a volume or as slices", f"both for {both}")
    for case_id in sorted(slices):
        _require_no_gap(case_id, slices[case_id])


def _require_no_gap(case_id: str, indices: Iterable[int]) -> None:
    given = sorted(indices)
    gaps = sorted(set(range(given[0], given[-1])) - set(given))
    wanted = f"each from {given[0]} to {given[-1]} once for case {case_id!r}"
    require(not gaps, "slice_index", wanted, f"none for {gaps}", cure="Evaluate every slice of a case.")


def _scorers(slices: Sequence[Mapping[str, Mapping[int, str]]]) -> dict[str, int]:
    """Choose the process that scores each case: one that holds most of it, and of these the least busy."""
    busy: Counter[int] = Counter()
    scorers: dict[str, int] = {}
    for case_id in sorted({case_id for process in slices for case_id in process}):
        ranked = [(-len(process.get(case_id, ())), busy[rank], rank) for rank, process in enumerate(slices)]
        scorers[case_id] = min(ranked)[-1]
        busy[scorers[case_id]] += 1
    return scorers
