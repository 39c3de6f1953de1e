"""Odd networks, losses, optimizers, schedulers and data sets: refused by name, or resumed to the bit."""

import functools
import random
from collections.abc import Mapping
from types import FunctionType

import numpy as np
import pytest
import torch
from tests.training.conftest import toy_network
from torch import nn
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from guided_attention._state_dicts import plain_name
from guided_attention.errors import ArgumentError, ArgumentTypeError, CheckpointError, ExistingFileError
from guided_attention.models import msga_lite
from guided_attention.training import (
    Trainer,
    TrainerConfig,
    generators,
    load_checkpoint,
    read_log,
    save_checkpoint,
)
from guided_attention.training.generators import generators_in

IMAGES = torch.rand(7, 1, 5, 11, generator=torch.Generator().manual_seed(3))
LABELS = (IMAGES[:, 0] > 0.5).long()
BATCHES = [(IMAGES[:3], LABELS[:3]), (IMAGES[3:5], LABELS[3:5]), (IMAGES[5:], LABELS[5:])]


class KilledError(Exception):
    """Stands for the end of a process."""


def train(run_dir, *, resume=False, loss=None, optimizer=None, loader=BATCHES, schedule=None, **settings):
    torch.manual_seed(0)
    model = settings.pop("model", None) or toy_network()
    validate = settings.pop("validate", lambda network: float(network(IMAGES).sum().sin()))
    optimizer = torch.optim.SGD(model.parameters(), 0.1) if optimizer is None else optimizer(model)
    settings = {"max_epochs": 3, "quiet": True, "device": "cpu", **settings}
    settings["schedule"] = None if schedule is None else schedule(optimizer)
    parts = {"train_loader": loader, "validate": validate, "run_dir": run_dir}
    trainer = Trainer(
        model, loss or nn.CrossEntropyLoss(), optimizer, config=TrainerConfig(**settings), **parts
    )
    trainer.fit(resume=resume)
    return model


def equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def killed_after(steps):
    remaining = iter(range(steps))

    def hook(event, _status):
        if event == "step" and next(remaining, None) is None:
            raise KilledError

    return [hook]


def resumed_equals_unbroken(tmp_path, make_parts):
    """Hold a run that ended inside its second epoch and was resumed against one that was not."""
    whole = train(tmp_path / "whole", **make_parts())
    with pytest.raises(KilledError):
        train(tmp_path / "broken", store_minutes=1e-9, hooks=killed_after(4), **make_parts())
    resumed = train(tmp_path / "broken", resume=True, **make_parts())
    logs = [read_log(tmp_path / name / "log.csv") for name in ("whole", "broken")]
    equal(whole.state_dict(), resumed.state_dict())
    assert [{**row, "minutes": 0.0, "waiting": 0.0} for row in logs[0]] == [
        {**row, "minutes": 0.0, "waiting": 0.0} for row in logs[1]
    ]


# Refused at the start


def frozen():
    return toy_network().requires_grad_(requires_grad=False)


_REFUSED = {
    "LBFGS": (
        {"optimizer": lambda model: torch.optim.LBFGS(model.parameters())},
        "needs no closure, got LBFGS",
    ),
    "all is frozen": ({"model": frozen()}, "`optimizer` must be one of parameters that are trained"),
    "sizes to be found out": (
        {"model": nn.LazyConv2d(2, 1)},
        r"sizes are known, got one with lazy weight, bias\. Pass one batch",
    ),
    "half weights with a scaler": ({"model": toy_network().half(), "precision": "fp16"}, "float32 weights"),
    "plateau of losses": (
        {"schedule": ReduceLROnPlateau},
        r"of mode 'max', got 'min'\. Validation scores are",
    ),
    "plateau without scores": (
        {"schedule": lambda optimizer: ReduceLROnPlateau(optimizer, "max"), "validate": None},
        "needs no score without `validate`",
    ),
    "one cycle in steps": (
        {"schedule": lambda optimizer: OneCycleLR(optimizer, 0.1, total_steps=9)},
        r"total_steps=3, as max_epochs, got total_steps=9\. It is stepped once an epoch",
    ),
    "a class of schedulers": ({"schedule": lambda _optimizer: StepLR}, "`schedule` must be .*, got a type"),
}


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(("parts", "message"), _REFUSED.values(), ids=_REFUSED)
def test_what_cannot_train_as_its_user_expects_is_refused_at_the_start(tmp_path, parts, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        train(tmp_path / "run", **parts)
    assert not (tmp_path / "run").exists()


# Refused where it shows


_FOUND = {
    "a loss of labels": (
        {"loss": lambda logits, labels: (logits.argmax(1) != labels).float().mean()},
        "gradient",
    ),
    "no batch in a batch": (
        {"loader": [*BATCHES, (IMAGES[:0], LABELS[:0])]},
        "at least one image, got one of none",
    ),
    "a rate that is NaN": ({"schedule": lambda _: lambda _progress: float("nan")}, "finite, got nan"),
    "a rate that is a text": ({"schedule": lambda _: lambda _progress: "0.1"}, "must be a number, got a str"),
    "several scores": ({"validate": lambda _model: torch.tensor([0.5, 0.25])}, "got a tensor of 2 numbers"),
}


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(("parts", "message"), _FOUND.values(), ids=_FOUND)
def test_what_shows_in_training_is_refused_by_name(tmp_path, parts, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        train(tmp_path / "run", **parts)


def test_a_group_that_is_added_while_training_is_refused(tmp_path):
    later = nn.Conv2d(2, 2, 1)

    def add(event, _status):
        if event == "epoch":
            optimizers[0].add_param_group({"params": list(later.parameters())})

    optimizers = []

    def make(model):
        optimizers.append(torch.optim.SGD(model.parameters(), 0.1))
        return optimizers[0]

    with pytest.raises(ArgumentError, match="of 1 group throughout, got 2 groups"):
        train(tmp_path / "run", optimizer=make, hooks=[add])


def test_errors_of_network_and_loss_say_what_they_were_given(tmp_path):
    bytes_ = [(image, labels.byte()) for image, labels in BATCHES]
    with pytest.raises(RuntimeError, match="expected scalar type Long") as caught:
        train(tmp_path / "run", loader=bytes_)
    shown = "torch.float32 of shape (3, 1, 5, 11), the labels torch.uint8 of shape (3, 5, 11)."
    assert caught.value.__notes__ == [f"The images were {shown}"]


@pytest.mark.parametrize(
    ("kind", "precision"), [("float64", "fp32"), ("float16", "fp32"), ("float64", "bf16")]
)
def test_images_of_another_type_than_the_weights_are_told_the_cure(tmp_path, kind, precision):
    kind = getattr(torch, kind)
    loader = [(image.to(kind), labels) for image, labels in BATCHES]
    with pytest.raises(RuntimeError) as caught:
        train(tmp_path / "run", loader=loader, precision=precision)
    assert caught.value.__notes__ == [
        f"The images were {kind} of shape (3, 1, 5, 11), the labels torch.int64 of shape (3, 5, 11).",
        "The weights are torch.float32: let the loader return images of that type.",
    ]


# Stored so that it can be read again


class Halving:
    """A factor as an object, whose state a scheduler stores: a NumPy number."""

    def __init__(self, factor, note=None):
        self.factor = factor
        self.note = note

    def __call__(self, epoch):
        return float(self.factor) ** epoch


@pytest.mark.usefixtures("without_shape_checks")
def test_numbers_of_numpy_in_settings_can_be_resumed(tmp_path):
    def parts():
        return {
            "max_epochs": np.int64(3),
            "ema_decay": np.float64(0.5),
            "clip_grad_norm": np.float32(1.0),
            "optimizer": lambda model: torch.optim.SGD(
                model.parameters(), np.float64(0.1), weight_decay=np.float32(0.25)
            ),
            "schedule": lambda optimizer: LambdaLR(optimizer, Halving(np.float64(0.5))),
        }

    resumed_equals_unbroken(tmp_path, parts)


@pytest.mark.parametrize("bad", [Halving, object()])
@pytest.mark.usefixtures("without_shape_checks")
def test_a_state_that_could_not_be_read_again_is_refused_before_training(tmp_path, bad):
    parts = {"schedule": lambda optimizer: LambdaLR(optimizer, Halving(0.5, bad))}
    with pytest.raises(ArgumentTypeError, match="`schedule` must be one whose state is made of tensors"):
        train(tmp_path / "run", **parts)
    assert not (tmp_path / "run").exists()


# A loss with a state of its own


class Weighted(nn.Module):
    """A loss whose weight is trained, which counts its calls, and is given a scale."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, logits, labels):
        self.calls += 1
        return nn.functional.cross_entropy(logits, labels) * self.weight.exp() / self.calls * self.scale


def parts_with(loss):
    return {
        "loss": loss,
        "optimizer": lambda model: torch.optim.SGD([*model.parameters(), *loss.parameters()], 0.1),
    }


def test_the_state_of_a_loss_is_resumed(tmp_path):
    resumed_equals_unbroken(tmp_path, lambda: parts_with(Weighted()))


def test_what_a_loss_is_given_anew_on_resume_is_taken_and_said(tmp_path, capsys):
    with pytest.raises(KilledError):
        train(tmp_path / "run", store_minutes=1e-9, hooks=killed_after(4), **parts_with(Weighted()))
    loss = Weighted(scale=0.5)
    train(tmp_path / "run", resume=True, **parts_with(loss))
    assert "changed since the run was stored: loss.scale" in capsys.readouterr().err
    assert (loss.scale.item(), loss.calls.item()) == (0.5, 9.0)


# Parameters in another order


def test_an_optimizer_of_the_same_parameters_in_another_order_is_refused(tmp_path):
    with pytest.raises(KilledError):
        train(tmp_path / "run", store_minutes=1e-9, hooks=killed_after(4))
    before = load_checkpoint(tmp_path / "run" / "last.pt")
    with pytest.raises(CheckpointError, match=r"in the same order as in .*, got 3\.bias for 0\.weight"):
        train(
            tmp_path / "run",
            resume=True,
            optimizer=lambda model: torch.optim.SGD(list(model.parameters())[::-1], 0.1),
        )
    assert load_checkpoint(tmp_path / "run" / "last.pt")["run"] == before["run"]


# Folders where files are to be


@pytest.mark.parametrize("name", ["last.pt", "last-1.pt", "best.pt", "log.csv", "run.json"])
def test_a_folder_in_the_place_of_a_file_is_found_before_training(tmp_path, name):
    with pytest.raises(KilledError):
        train(tmp_path / "run", store_minutes=1e-9, hooks=killed_after(4))
    (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "run" / name).mkdir()
    steps = []
    with pytest.raises(
        ExistingFileError, match=f"a file or nothing as {name}, got the folder .* Move it away"
    ):
        train(tmp_path / "run", resume=True, hooks=[lambda event, _status: steps.append(event)])
    assert steps == []


# Averaged weights


def test_an_average_that_begins_on_resume_starts_with_the_stored_weights(tmp_path):
    validated = []

    def fail(_network):
        raise KilledError

    def keep(network):
        validated.append({name: value.clone() for name, value in network.state_dict().items()})
        return 0.5

    with pytest.raises(KilledError):
        train(tmp_path / "run", validate=fail, max_epochs=1)
    stored = load_checkpoint(tmp_path / "run" / "last.pt")["model"]
    train(tmp_path / "run", validate=keep, max_epochs=2, ema_decay=0.9, resume=True)
    first, second = validated
    equal(first, stored)
    # From the next step on it is the average as of a new run: the first step is copied.
    assert load_checkpoint(tmp_path / "run" / "last.pt")["averaged"]["n_averaged"] == len(BATCHES)
    assert not torch.equal(second["0.weight"], stored["0.weight"])


class Judge(nn.Module):
    """A loss with weights of its own."""

    def __init__(self):
        super().__init__()
        self.part = nn.Conv2d(2, 2, 1)

    def forward(self, logits, target):
        return nn.functional.cross_entropy(self.part(logits), target)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of torch's compiler
@pytest.mark.parametrize("compiled", [(True, False), (False, True)], ids=["before", "after"])
def test_parts_of_network_and_loss_may_be_compiled_before_or_after_a_resume(tmp_path, capsys, compiled):
    def run(name, epochs, *, compiled, resume=False):
        torch.manual_seed(0)
        model, loss = toy_network(), Judge()
        if compiled:
            model[0], loss.part = (torch.compile(part, backend="eager") for part in (model[0], loss.part))
        parts = {"model": model, "loss": loss, "max_epochs": epochs, "ema_decay": 0.9, "resume": resume}
        train(
            tmp_path / name,
            optimizer=lambda _: torch.optim.SGD([*model.parameters(), *loss.parameters()], 0.1),
            **parts,
        )
        held = load_checkpoint(tmp_path / name / "last.pt")
        weights = (held["model"], held["averaged"], held["loss"]["state"])
        return [{plain_name(name): value for name, value in part.items()} for part in weights]

    whole = run("whole", 4, compiled=False)
    run("broken", 2, compiled=compiled[0])
    resumed = run("broken", 4, compiled=compiled[1], resume=True)
    for ours, theirs in zip(resumed, whole, strict=True):
        equal(ours, theirs)
    assert capsys.readouterr().err == "changed since the run was stored: max_epochs: 2 → 4\n"


def test_an_average_of_another_network_is_refused_before_anything_is_loaded(tmp_path):
    train(tmp_path / "run", ema_decay=0.9, max_epochs=1)
    path = tmp_path / "run" / "last.pt"
    held = load_checkpoint(path)
    del held["averaged"]["module.0.weight"]
    save_checkpoint(path, held)
    model = toy_network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"missing in the file: module\.0\.weight"):
        train(tmp_path / "run", model=model, ema_decay=0.9, max_epochs=2, resume=True)
    equal(model.state_dict(), before)


# Schedulers made of others


def one_after_the_other(optimizer, epochs=10):
    inner = [LinearLR(optimizer, 0.1, total_iters=2), CosineAnnealingLR(optimizer, epochs)]
    return SequentialLR(optimizer, inner, [2])


def with_milestones(optimizer, epochs=10):
    inner = [LinearLR(optimizer, 0.1, total_iters=8), MultiStepLR(optimizer, [epochs - 9, epochs - 7])]
    return SequentialLR(optimizer, inner, [8])


def at_once(optimizer, epochs=10):
    inner = [LinearLR(optimizer, 0.1, total_iters=2), CosineAnnealingLR(optimizer, epochs)]
    return ChainedScheduler(inner, optimizer)


def rates_of_torch(make, epochs, changed=None):
    """Return the rates without a Trainer, with a setting of the second one inside changed after 6 epochs."""
    optimizer = torch.optim.SGD(toy_network().parameters(), 0.1)
    scheduler, rates = make(optimizer), []
    for epoch in range(epochs):
        if epoch == 6:
            vars(scheduler._schedulers[1]).update(changed or {})
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("make", "changed", "said"),
    [
        (one_after_the_other, {"T_max": 11}, "T_max: 10 → 11"),
        (at_once, {"T_max": 11}, "T_max: 10 → 11"),
        (with_milestones, {}, None),
    ],
)
def test_schedulers_inside_others_are_resumed_each_with_what_is_given_now(
    tmp_path, capsys, make, changed, said
):
    wanted = rates_of_torch(make, 13, changed)
    train(tmp_path / "run", schedule=make, max_epochs=6)
    capsys.readouterr()
    anew = functools.partial(make, epochs=changed.get("T_max", 10))
    train(tmp_path / "run", schedule=anew, max_epochs=13, resume=True)
    assert [row["lr"] for row in read_log(tmp_path / "run" / "log.csv")] == pytest.approx(wanted, rel=1e-12)
    lines = [f"schedule._schedulers[1].{said}"] if said else []
    assert [line.partition(": ")[2] for line in capsys.readouterr().err.splitlines()] == [
        *lines,
        "max_epochs: 6 → 13",
    ]


def test_a_scheduler_that_is_added_inside_another_is_said(tmp_path, capsys):
    def longer(optimizer):
        inner = [LinearLR(optimizer, 0.1, total_iters=2), CosineAnnealingLR(optimizer, 10)]
        return SequentialLR(optimizer, [*inner, ConstantLR(optimizer, 0.5)], [2, 5])

    train(tmp_path / "run", schedule=one_after_the_other, max_epochs=4)
    capsys.readouterr()
    train(tmp_path / "run", schedule=longer, max_epochs=8, resume=True)
    assert [line.partition(": ")[2] for line in capsys.readouterr().err.splitlines()] == [
        "schedule._milestones: [2] → [2, 5]",
        "schedule._schedulers: 2 → 3 entries",
        "max_epochs: 4 → 8",
    ]
    rates = [row["lr"] for row in read_log(tmp_path / "run" / "log.csv")]
    assert rates == pytest.approx(rates_of_torch(longer, 8), rel=1e-12)


# Generators of random numbers, wherever a data set has them


SHARED = np.random.default_rng(3)


def add_noise(image, generator=None):
    return image + (generator or SHARED).random()


class Adder:
    __slots__ = ("generator",)

    def __init__(self, generator):
        self.generator = generator

    def add(self, image):
        return add_noise(image, self.generator)

    __call__ = add


class Noisy(Dataset):
    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 7

    def __getitem__(self, index):
        return self.transform(IMAGES[index]).float(), LABELS[index]


class Module(nn.Module):
    def __init__(self, generator):
        super().__init__()
        self.generator = generator

    def forward(self, image):
        return add_noise(image, self.generator)


def of_class(generator, *, own=None):
    """Return an object whose class has the generator, which adds the numbers of its own one too."""
    variables = {
        "generator": generator,
        "again": lambda self, image: add_noise(image, self.generator),
        "__call__": lambda self, image: add_noise(self.again(image), type(self).generator),
    }
    made = type("OfClass", (), variables)()
    if own is not None:
        made.generator = own
    return made


class Read:
    """Has its generator in a property only."""

    def __init__(self, generator):
        type(self).generator = property(lambda _self: generator)

    def __call__(self, image):
        return add_noise(image, self.generator)


def of_two_classes(generator):
    """Return an object of a class with the name of its base class, and with another generator of the same name."""
    base = type(of_class(generator))
    variables = {
        "generator": np.random.default_rng(78),
        "__call__": lambda self, image: add_noise(base.__call__(self, image), base.generator),
    }
    return type("OfClass", (base,), variables)()


def of_method(kind):
    """Return a function that makes an object whose static or class method has a generator."""

    def make(generator):
        method = kind(lambda *arguments: add_noise(arguments[-1], generator))
        return type("Caller", (), {"add": method, "__call__": lambda self, image: self.add(image)})()

    return make


def in_comprehension(image):
    return next(add_noise(part, INNER) for part in image[None])


def in_nested_function(image):
    def add():
        return add_noise(image, INNER)

    return add()


INNER = np.random.default_rng(4)


def of_inner(function):
    """Return a function that makes another, whose module has a generator as ``INNER``."""
    return lambda generator: FunctionType(function.__code__, {**globals(), "INNER": generator})


_TRANSFORMS = {
    "a variable of the module": lambda _generator: add_noise,
    "a variable of the function around": lambda generator: lambda image: add_noise(image, generator),
    "an argument fixed before": lambda generator: functools.partial(add_noise, generator=generator),
    "a default": lambda generator: lambda image, own=generator: add_noise(image, own),
    "an object with slots": Adder,
    "a method": lambda generator: Adder(generator).add,
    "a set": lambda generator: functools.partial(lambda own, image: add_noise(image, *own), {generator}),
    "a variable of the class": of_class,
    "a variable of a base class": lambda generator: type("Sub", (type(of_class(generator)),), {})(),
    "a variable of the class that the object has too": lambda generator: of_class(
        generator, own=np.random.default_rng(77)
    ),
    "modules in modules": lambda generator: nn.Sequential(nn.Identity(), nn.Sequential(Module(generator))),
    "a property": Read,
    "variables of one name in two classes of one name": of_two_classes,
    "a static method": of_method(staticmethod),
    "a class method": of_method(classmethod),
    "a comprehension": of_inner(in_comprehension),
    "a function in a function": of_inner(in_nested_function),
    "a method of the generator": lambda generator: lambda image, own=generator.random: image + own(),
}


def test_generators_are_found_wherever_transforms_have_them(tmp_path, monkeypatch):
    def parts():
        monkeypatch.setitem(globals(), "SHARED", np.random.default_rng(5))
        made = [make(np.random.default_rng(seed)) for seed, make in enumerate(_TRANSFORMS.values())]
        data = Noisy(lambda image: functools.reduce(lambda value, transform: transform(value), made, image))
        found = generators_in({"train_loader": data})
        assert len({id(source) for source in found.values()}) == len(_TRANSFORMS) + 2, list(found)
        return {"loader": DataLoader(data, 3, shuffle=True)}

    resumed_equals_unbroken(tmp_path, parts)


def parts_with_generators(count):
    return ConcatDataset([Noisy(Adder(np.random.default_rng(number))) for number in range(count)])


def test_generators_behind_the_first_parts_of_a_list_are_refused_and_a_hundred_are_stored(tmp_path):
    loader = DataLoader(parts_with_generators(150), 700)
    message = (
        r"`train_loader` must be one that a resumed run can repeat, got train_loader\.dataset\.datasets\[100\]"
        r"\.transform\.generator and others behind the first 100 parts of a list\. Let its parts share one"
    )
    with pytest.raises(ArgumentError, match=message):
        train(tmp_path / "run", loader=loader)
    assert not (tmp_path / "run").exists()
    train(tmp_path / "run", loader=loader, exact_resume=False, max_epochs=1)

    def paths(data, **where):
        return [
            name
            for name, source in generators_in({"train_loader": data}, **where).items()
            if source is not SHARED
        ]

    hundred = [f"train_loader.datasets[{number}].transform.generator" for number in range(100)]
    assert paths(parts_with_generators(100)) == hundred
    shared = ConcatDataset([Noisy(Adder(np.random.default_rng(0)))] * 150)
    assert paths(shared) == paths(shared, everywhere=True) == hundred[:1]


class Loaded(Mapping):
    """Loads a sample when it is asked for it, as a file of many arrays does."""

    def __init__(self):
        self.loaded = []

    def __getitem__(self, key):
        self.loaded.append(key)
        return Noisy(Adder(np.random.default_rng(key)))

    def __iter__(self):
        return iter(range(1000))

    def __len__(self):
        return 1000


class LoadedDict(dict):
    """The same, of a dictionary."""

    loaded = ()

    def items(self):
        self.loaded = [*self]
        return [(key, Noisy(Adder(np.random.default_rng(key)))) for key in self]


class LoadedList(list):
    """The same, of a list."""

    loaded = ()

    def __iter__(self):
        self.loaded = [*range(len(self))]
        return iter([Noisy(Adder(np.random.default_rng(key))) for key in range(len(self))])


def test_a_trainer_loads_no_sample_before_the_run(make_trainer):
    samples = [Loaded(), LoadedDict.fromkeys(range(1000)), LoadedList(range(1000))]
    data = Noisy(functools.partial(lambda _samples, image: image, samples))
    make_trainer(loader=DataLoader(data, 3))
    assert [[*one.loaded] for one in samples] == [[], [], []]


@pytest.mark.parametrize(("behind", "found"), [(10_000, ["train_loader[10000]"]), (30_000, [])])
def test_the_search_before_a_run_ends_in_large_data(behind, found):
    data = [*range(behind), np.random.default_rng(0)]
    assert [*generators_in({"train_loader": data}, everywhere=True)] == found
    assert [*generators_in({"train_loader": data})] == []


def nested(module, levels):
    for _ in range(levels):
        module = nn.Sequential(nn.Identity(), module)
    return module


class NoisyLoss(nn.CrossEntropyLoss):
    def __init__(self):
        super().__init__()
        self.generator = np.random.default_rng(5)

    def forward(self, logits, labels):
        return super().forward(add_noise(logits.double(), self.generator).square(), labels)


def noisy_augment(generator):
    return lambda images, labels, _seeds: (images * generator.random(), labels)


def noisy_score(generator):
    return lambda _network: generator.random()


_WITH_GENERATORS = {
    "augment": lambda: {"augment": noisy_augment(np.random.RandomState(5))},
    "model": lambda: {
        "model": nn.Sequential(nested(Module(np.random.default_rng(5)), 15), toy_network().double()),
        "loader": [(image.double(), labels) for image, labels in BATCHES],
        "validate": None,
    },
    "loss": lambda: {"loss": NoisyLoss()},
    "validate": lambda: {"validate": noisy_score(np.random.default_rng(5))},
}


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("make_parts", _WITH_GENERATORS.values(), ids=_WITH_GENERATORS)
def test_generators_of_every_part_of_a_run_are_resumed(tmp_path, make_parts):
    resumed_equals_unbroken(tmp_path, make_parts)


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("augment", {"augment": noisy_augment(random.SystemRandom())}),
        ("validate", {"validate": noisy_score(random.SystemRandom())}),
        ("model", {"model": nn.Sequential(nested(Module(random.SystemRandom()), 15), toy_network())}),
    ],
)
def test_a_generator_whose_state_cannot_be_read_is_refused_in_every_part(tmp_path, argument, parts):
    message = (
        rf"`{argument}` must be one that a resumed run can repeat, got {argument}.*, a random\.SystemRandom\."
    )
    with pytest.raises(ArgumentError, match=message):
        train(tmp_path / "run", **parts)
    assert not (tmp_path / "run").exists()


def test_the_search_in_a_large_network_is_short():
    network = msga_lite(1, 5, encoder="resnet34", channels=16)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        parts_of = generators._parts_of
        patch.setattr(generators, "_parts_of", lambda *part: seen.append(part) or parts_of(*part))
        assert generators_in({"model": network}) == {}
    assert len(seen) < 20 * len([*network.modules()])
