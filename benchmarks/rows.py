"""Which rows each benchmark has: what is measured in one, and beside what. No torch here: this is the plan alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

__all__ = ["BENCHMARKS", "NOT_RUN", "TITLES", "WHO", "Choices", "Row", "Spec", "rows_of"]

NOT_RUN = "not measured"
"""The entry of a result that says why there are no numbers."""

BENCHMARKS: Mapping[str, str] = {
    "attention": "PAM on 64 channels, forward and backward, gate open",
    "training": "one training step of the network in the original's layout: loss, backward, Adam",
    "evaluation": "one forward pass of the network in the original's layout in evaluation mode, without gradients",
    "networks": "training step and evaluation of whole networks against the side of the image, batch 1",
    "limits": "ours against the least time in which this machine could do the same sums",
    "precision": "ours under bf16 autocast against fp32",
    "surfaces": "mean surface distance, 95th percentile and largest distance of all organs of a case",
}

TITLES: Mapping[str, str] = {
    "ours": "ours",
    "twin": "as the original stores it",
    "sparing": "ours, checkpointing",
    "dahead": "in DAHead's manner",
    "msga": "MSGA, ours",
    "attention_unet": "AttentionUnet of MONAI",
    "unet": "BasicUNet of MONAI",
    "manet": "MAnet of smp",
    "bf16": "ours, bf16",
    "fp32": "ours, fp32",
    "ours, surfel": "ours, surfels",
    "ours, mesh": "ours, meshes",
    "surface-distance": "surface-distance of DeepMind",
    "monai": "MONAI",
    "medpy": "MedPy",
    "torchio": "TorchIO",
}
"""What pages and pictures call an entry."""

_PEERS = ("attention_unet", "unet", "manet")
_WAYS = ("ours", "twin", "dahead")
_NETWORKS = ("ours", "twin", "sparing", "msga", *_PEERS)

WHO: Mapping[str, Sequence[str]] = {"attention": _WAYS, "training": _NETWORKS, "evaluation": _NETWORKS}
"""Whose pass there is of each task."""

_SCORERS = ("ours", "surface-distance", "monai", "medpy", "ours, surfel", "ours, mesh")
_CUDA_BATCHES = (1, 2, 4, 8, 16, 32)
_STEPS_OF_LEARNING = 200
_STRIDE = 4  # of the finest map, on which every attention of the network works


@dataclass(frozen=True)
class Spec:
    """One measurement, to be made in a process of its own.

    `side` is that of the map for the task "attention", and that of the image for all others.
    """

    task: str
    who: str
    side: int
    batch: int = 1
    precision: str = "fp32"
    part: str = "both"
    steps: int = 1
    device: str = "cpu"
    threads: int = 2
    data: str = ""

    def bytes_of_stored_weights(self) -> int:
        """Return what the attention weights alone take where they are stored as the original stores them.

        The network keeps the weights of its eight attentions for the backward pass; while one of them works, two or
        three more matrices of that size are alive (scores and weights; in the backward pass their gradients).
        """
        positions = self.side**2 if self.task == "attention" else (-(-self.side // _STRIDE)) ** 2
        kept = {"attention": 1, "training": 8, "evaluation": 0}[self.task]
        at_work = 2 if self.task == "evaluation" else 3
        return (kept + at_work) * positions**2 * 4 * self.batch


@dataclass(frozen=True)
class Row:
    """Entries that are measured in turns and compared; the first is ours.

    `about` says what the row is, and tells it from all others. Entries in `once` give the same every time and are run a
    single time.
    """

    about: Mapping[str, str | int]
    specs: Mapping[str, Spec]
    once: frozenset[str] = field(default=frozenset())


@dataclass(frozen=True)
class Choices:
    """What the command line asked for; an empty sequence is the benchmark's own choice."""

    sides: Sequence[int] = ()
    batches: Sequence[int] = ()
    precisions: Sequence[str] = ()
    device: str = "cpu"
    threads: int = 2
    data: str = ""


def rows_of(name: str, choices: Choices) -> list[Row]:
    """Return the rows of a benchmark, the cheap ones first."""
    makers = {
        "attention": _attention,
        "training": _original_layout,
        "evaluation": _original_layout,
        "networks": _networks,
        "limits": _limits,
        "precision": _precision,
        "surfaces": _surfaces,
    }
    return list(makers[name](name, choices))


def _attention(_: str, choices: Choices) -> Iterator[Row]:
    for side, batch, precision in _grid(choices, {64: 2, 128: 1}, wide_on_cuda=(64, 128, 256)):
        spec = _spec(choices, task="attention", who="", side=side, batch=batch, precision=precision)
        yield _row(spec, _WAYS)


def _original_layout(name: str, choices: Choices) -> Iterator[Row]:
    for side, batch, precision in _grid(choices, {256: 2, 512: 1}, wide_on_cuda=(256, 512, 1024)):
        spec = _spec(choices, task=name, who="", side=side, batch=batch, precision=precision)
        yield _row(spec, ("ours", "twin", "sparing") if name == "training" else ("ours", "twin"))


def _networks(_: str, choices: Choices) -> Iterator[Row]:
    for side, batch, precision in _grid(choices, {128: 1, 256: 1, 512: 1, 1024: 1}):
        for task in ("training", "evaluation"):
            spec = _spec(choices, task=task, who="", side=side, batch=batch, precision=precision)
            yield _row(spec, ("msga", "twin", *_PEERS))


def _surfaces(_: str, choices: Choices) -> Iterator[Row]:
    for case, side in (("four organs", 256), ("far voxel", 256), ("liver", 512)):
        spec = _spec(choices, task="surfaces", who="", side=side, part=case, data=choices.data)
        entries = {who: replace(spec, who=who) for who in _SCORERS}
        yield Row({"task": case, "side": side, "batch": 1}, entries, once=frozenset({"ours, mesh"}))


def _limits(_: str, choices: Choices) -> Iterator[Row]:
    """For an image of each side: its attention forward and backward, the training step, the evaluation of one image."""
    for side, batch, precision in _grid(choices, {256: 2, 512: 1}, precisions=("fp32", "bf16")):
        step = _spec(choices, task="training", who="ours", side=side, batch=batch, precision=precision)
        for part in ("forward", "backward"):
            yield _limit(replace(step, task="attention", side=max(1, side // _STRIDE), part=part))
        yield _limit(step)
        yield _limit(replace(step, task="evaluation", part="forward", batch=1))


def _limit(spec: Spec) -> Row:
    """Beside ours stand what this machine can do at most, measured in turns with it, and what there is to do."""
    specs = {
        "ours": spec,
        "ceilings": replace(spec, task="ceilings"),
        "counts": replace(spec, task=f"counts of {spec.task}", device="cpu"),
    }
    return Row({**_about(spec), "part": spec.part}, specs, once=frozenset({"counts"}))


def _precision(_: str, choices: Choices) -> Iterator[Row]:
    for side, batch, _precision in _grid(replace(choices, precisions=("both",)), {256: 2}):
        step = _spec(choices, task="training", who="ours", side=side, batch=batch)
        yield _in_both_precisions(step)
    if choices.data:
        learning = _spec(choices, task="learning", who="ours", side=0, batch=4)
        learning = replace(learning, steps=_STEPS_OF_LEARNING, data=choices.data)
        yield _in_both_precisions(learning, once=frozenset({"bf16", "fp32"}))


def _in_both_precisions(spec: Spec, once: frozenset[str] = frozenset()) -> Row:
    about = {name: value for name, value in _about(spec).items() if name != "precision"}
    if spec.task == "learning":
        about = {"task": "learning", "steps": spec.steps, "batch": spec.batch}
    return Row(about, {name: replace(spec, precision=name) for name in ("bf16", "fp32")}, once)


def _row(spec: Spec, entries: Sequence[str]) -> Row:
    return Row(_about(spec), {who: replace(spec, who=who) for who in entries})


def _about(spec: Spec) -> dict[str, str | int]:
    return {"task": spec.task, "side": spec.side, "batch": spec.batch, "precision": spec.precision}


def _spec(choices: Choices, **values: str | int) -> Spec:
    return Spec(device=choices.device, threads=choices.threads, **values)


def _grid(
    choices: Choices,
    usual: Mapping[int, int],
    *,
    precisions: Sequence[str] = ("fp32",),
    wide_on_cuda: Sequence[int] = (),
) -> Iterator[tuple[int, int, str]]:
    """Return side, batch and precision of each row; `usual` has the sides and the batch of each.

    On CUDA both precisions are usual, and where `wide_on_cuda` names sides, every batch at each of those.
    """
    cuda = choices.device.startswith("cuda")
    wide = wide_on_cuda if cuda else ()
    sides = choices.sides or wide or list(usual)
    for precision in choices.precisions or (("fp32", "bf16") if cuda else precisions):
        for side in sorted(sides):
            for batch in choices.batches or (_CUDA_BATCHES if wide else (usual.get(side, 1),)):
                yield side, batch, precision
