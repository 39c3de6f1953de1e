"""Wrong uses of the command line, and the page that lists them with their messages and exit codes.

    python -m tests.examples.wrong_uses

writes the table and the help texts of docs/how-to/command-line.md anew.
"""

import contextlib
import io
import json
import os
import re
import resource
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guided_attention import cli
from guided_attention._cli_parser import make_parser
from guided_attention.data import write_nifti
from guided_attention.recipes import plan_for, train
from guided_attention.recipes._held_out import cases_of_folds

PAGE = Path(__file__).parents[2] / "docs/how-to/command-line.md"
VERBS = ("check", "convert", "plan", "train", "finalize", "predict", "merge", "evaluate", "info")
_LONGEST = 240
_NOBODY = 65534
AFFINE = np.diag([1.5, 1.25, 5.0, 1.0])


@dataclass(frozen=True)
class Use:
    """What is wrong, the command without `guided-attention`, and the exit code that the user has to get.

    A `trouble` is what the computer does wrong, see `TROUBLES`.
    """

    what: str
    command: str
    code: int
    trouble: str = ""


USES = (
    Use("no verb", "", 2),
    Use("misspelt verb", "trian runs/planned", 2),
    Use("unknown option", "train runs/planned --epochs 3", 2),
    Use("argument missing", "plan scans", 2),
    # check and convert
    Use("folder of scans missing", "check nothing", 1),
    Use("damaged scan", "check damaged", 1),
    Use("pattern of patients wrong", "check scans --patient '('", 2),
    Use("no process", "check scans --workers 0", 2),
    Use("unknown layout", "convert scans --out raw --to dicom", 2),
    Use("output exists", "convert scans --out documents --to pairs --organ 1=liver", 2),
    Use("organs without names", "convert scans --out raw --to nnunet", 1),
    # plan
    Use("pattern of patients fits no name", "plan scans --out runs/new --patient '(p[0-9]+)-'", 2),
    Use("folder of scans missing", "plan nothing --out runs/new", 2),
    Use("empty folder", "plan empty --out runs/new", 1),
    Use("no scans in the folder", "plan documents --out runs/new", 1),
    Use("unknown layout", "plan scans --out runs/new --layout nifti", 2),
    Use("another layout", "plan scans --out runs/new --layout nnunet", 1),
    Use("no case has a mask", "plan unlabelled --out runs/new", 1),
    Use("mask without image", "plan orphan --out runs/new", 1),
    Use("link that leads nowhere", "plan links --out runs/new", 2),
    Use("damaged scan", "plan damaged --out runs/new", 1),
    Use("wrong JSON beside the scans", "plan json --out runs/new", 1),
    Use("output exists", "plan scans --out runs/planned", 2),
    Use("output is a file", "plan scans --out documents/notes.txt", 2),
    Use("misspelt key", "plan scans --out runs/new --set optimiser.lr=0.1", 2),
    Use("misspelt key, second word", "plan scans --out runs/new --set optimizer.learning_rate=0.1", 2),
    Use("value of the wrong type", "plan scans --out runs/new --set optimizer.lr=fast", 2),
    Use("value out of range", "plan scans --out runs/new --set budget.epochs=0", 2),
    Use("no organ", "plan scans --out runs/new --organ liver", 2),
    Use("organ named twice", "plan scans --out runs/new --organ 1=liver --organ 1=spleen", 2),
    Use("organ that no mask has", "plan scans --out runs/new --organ 1=liver --organ 97=spleen", 1),
    Use("value missing", "plan scans --out runs/new --set optimizer.lr", 2),
    Use("no number", "plan scans --out runs/new --minutes soon", 2),
    Use("number out of range", "plan scans --out runs/new --minutes 0", 2),
    Use("unknown dimensions", "plan scans --out runs/new --dimensions 4d", 2),
    Use(
        "patches of other dimensions",
        "plan scans --out runs/new --dimensions 3d --set sampling.size=16,16",
        2,
    ),
    Use("mirrored depth of slices", "plan scans --out runs/new --set inference.mirror_axes=depth", 2),
    Use("window without pixels", "plan scans --out runs/new --set inference.patch_size=0,16", 2),
    Use("unknown device", "plan scans --out runs/new --device tpu9", 2),
    Use("device that does not exist", "plan scans --out runs/new --device cuda:7", 2),
    Use("output", "plan scans --out locked/new", 2, "no permission"),
    Use("scans", "plan secret --out predictions/new", 1, "no permission"),
    Use("output", "plan scans --out runs/full", 1, "no space"),
    # train
    Use("run folder missing", "train nothing", 2),
    Use("not a run", "train scans", 2),
    Use("run trained already", "train runs/trained", 2),
    Use("nothing to resume", "train runs/planned --resume", 2),
    Use("misspelt key", "train runs/planned --set budget.epoch=3", 2),
    Use("resumed with another setting", "train runs/trained --resume --set optimizer.lr=0.5", 2),
    Use("plan.json damaged", "train runs/damaged-plan", 1),
    Use("plan.json with an unknown key", "train runs/unknown-key", 1),
    Use("plan of a newer version", "train runs/newer", 1),
    Use("scans moved", "train runs/moved", 2),
    Use("run to start from missing", "train runs/planned --init-from nothing", 2),
    Use("unknown device", "train runs/planned --device tpu9", 2),
    Use("run folder", "train runs/planned", 2, "no permission"),
    Use("plan.json", "train runs/planned", 1, "no space"),
    Use("weights", "train runs/planned", 1, "little space"),
    # folds
    Use("more folds than cases", "train runs/planned --folds 9", 2),
    Use("number of the fold without --folds", "train runs/planned --fold 2", 2),
    Use("no such fold", "train runs/planned --folds 2 --fold 2", 2),
    Use("folds of a run that has none", "train runs/trained --folds 2", 2),
    Use("another number of folds", "train runs/folds --folds 3 --resume", 2),
    Use("one network in a run of folds", "train runs/folds", 2),
    Use("weights to start from", "train runs/planned --folds 2 --init-from runs/trained", 2),
    Use("no folds", "finalize runs/trained", 2),
    Use("unfinished folds", "finalize runs/folds", 1),
    Use("folds not finalized", "predict runs/folds --out predictions/new", 2),
    # predict
    Use("not a run", "predict scans --out predictions", 2),
    Use("run not trained yet", "predict runs/planned --out predictions", 2),
    Use("best.pt damaged", "predict runs/damaged-weights --out predictions", 1),
    Use("scans missing", "predict runs/trained nothing --out predictions", 2),
    Use("empty folder", "predict runs/trained empty --out predictions", 1),
    Use("scans of another number of channels", "predict runs/trained channels --out predictions/channels", 3),
    Use("one scan of several damaged", "predict runs/trained damaged --out predictions/damaged", 3),
    Use(
        "two scans of one name",
        "predict runs/trained scans/a_image.nii.gz copy/a.nii.gz --out predictions",
        2,
    ),
    Use("output exists", "predict runs/trained unlabelled --out predictions/done", 2),
    Use("output is a file", "predict runs/trained unlabelled --out documents/notes.txt", 2),
    Use("output of another run", "predict runs/other unlabelled --out predictions/done --resume", 1),
    Use("both ways on", "predict runs/trained --out predictions/done --resume --overwrite", 2),
    Use("output", "predict runs/trained unlabelled --out locked/new", 2, "no permission"),
    Use("output", "predict runs/trained unlabelled --out predictions/full", 1, "no space"),
    Use("no such shard", "predict runs/trained unlabelled --out predictions/new --shard 3/2", 2),
    Use("no number of shards", "predict runs/trained unlabelled --out predictions/new --shard 2", 2),
    Use(
        "shards to discard",
        "predict runs/trained unlabelled --out predictions/new --shard 1/2 --overwrite",
        2,
    ),
    Use(
        "a shard of what is predicted",
        "predict runs/trained unlabelled --out predictions/done --shard 1/2",
        1,
    ),
    # merge
    Use("no predictions", "merge scans", 2),
    Use("shards missing", "merge predictions/shards", 3),
    # evaluate
    Use("run not trained yet", "evaluate runs/planned", 2),
    Use("cases without reference", "evaluate runs/trained unlabelled", 1),
    Use("folder of predictions missing", "evaluate runs/trained scans --predictions nothing", 2),
    Use("predictions of other scans", "evaluate runs/trained scans --predictions predictions/done", 1),
    Use("output is a file", "evaluate runs/trained scans --out documents/notes.txt", 2),
    Use("output", "evaluate runs/trained scans --out locked/new", 2, "no permission"),
    # info
    Use("nothing there", "info nothing", 2),
    Use("a file of another kind", "info documents/notes.txt", 1),
)


@contextlib.contextmanager
def make_world() -> Iterator[Path]:
    """Write the folders that the commands name, scans and runs in several states, and delete them in the end."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _fill(root)
        predict = "predict runs/trained unlabelled --device cpu --out predictions"
        assert _run(root, f"{predict}/done")[0] == 0
        assert _run(root, f"{predict}/shards --shard 1/2")[0] == 0
        for path in (path for path in (root, *root.rglob("*")) if not path.is_symlink()):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (root / "secret/a_image.nii.gz").chmod(0)
        (root / "locked").chmod(0o555)
        yield root


def _fill(root: Path) -> None:
    for name in ("empty", "links", "runs", "predictions", "copy"):
        (root / name).mkdir(parents=True)
    for number, name in enumerate("abcde"):
        _scan(root / "scans" / f"{name}_image.nii.gz", number)
        _mask(root / "scans" / f"{name}_label.nii.gz")
    for name in ("x", "y"):
        _scan(root / "unlabelled" / f"{name}.nii.gz", 9)
    shutil.copytree(root / "scans", root / "orphan")
    (root / "orphan/c_image.nii.gz").unlink()
    shutil.copytree(root / "scans", root / "json")
    (root / "json/cases.json").write_text('{"train": ["a", "b"', encoding="utf-8")
    shutil.copytree(root / "scans", root / "damaged")
    (root / "damaged/c_image.nii.gz").write_bytes((root / "scans/c_image.nii.gz").read_bytes()[:-900])
    (root / "links/a_image.nii.gz").symlink_to("nowhere.nii.gz")
    shutil.copy(root / "scans/b_image.nii.gz", root / "copy/a.nii.gz")
    shutil.copytree(root / "scans", root / "secret")
    (root / "locked").mkdir()
    _scan(root / "channels/a.nii.gz", 3, channels=2)
    (root / "documents").mkdir()
    (root / "documents/notes.txt").write_text("notes", encoding="utf-8")
    _runs(root)


def _scan(path: Path, seed: int, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(100, 20, (channels, 3, 17, 19))
    noise[:, 1:, 5:11, 4:13] += 100
    write_nifti(path, (noise if channels > 1 else noise[0]).astype(np.int16), AFFINE)


def _mask(path: Path) -> None:
    mask = np.zeros((3, 17, 19), np.uint8)
    mask[1:, 5:11, 4:13] = 1
    write_nifti(path, mask, AFFINE)


def _runs(root: Path) -> None:
    plan = plan_for(root / "scans", device="cpu").with_values(
        {"budget.epochs": 1, "training.precision": "fp32", "sampling.steps": 2}
    )
    for name in ("planned", "damaged-plan", "unknown-key", "newer", "moved", "trained"):
        (root / "runs" / name).mkdir()
        plan.save(root / "runs" / name / "plan.json")
    train(root / "runs/trained", device="cpu", quiet=True)
    (root / "runs/folds").mkdir()
    plan.save(root / "runs/folds/plan.json")
    _json(root / "runs/folds/folds.json", {"held_out": cases_of_folds(plan, 2)})
    (root / "runs/damaged-plan/plan.json").write_text('{"version": 2, "data": {"folder":', encoding="utf-8")
    content = plan.to_dict()
    _json(root / "runs/unknown-key/plan.json", content | {"optimiser": {"lr": 1}})
    _json(root / "runs/newer/plan.json", content | {"version": 99})
    moved = content | {"data": content["data"] | {"folder": "/moved/scans"}}
    _json(root / "runs/moved/plan.json", moved)
    train(plan.with_values({"seed": 1}), root / "runs/other", device="cpu", quiet=True)
    shutil.copytree(root / "runs/trained", root / "runs/damaged-weights")
    weights = (root / "runs/trained/best.pt").read_bytes()
    (root / "runs/damaged-weights/best.pt").write_bytes(weights[: len(weights) // 2])


def _json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def outcome(root: Path, use: Use) -> tuple[int, str]:
    """Run a command in the folder `root`; return its exit code and what it said on standard error."""
    with TROUBLES[use.trouble]():
        code, text = _run(root, use.command)
    text = text.replace(str(root.resolve()), "/home/me").replace(str(root), "/home/me")
    # Names in a cache hold a hash of times and paths.
    return code, re.sub(r"(/cache/[^/]+)-[0-9a-f]{20}/", r"\1-0123456789/", text)


def _run(root: Path, command: str) -> tuple[int, str]:
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.chdir(root), contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = cli.main(shlex.split(command))
    return code, errors.getvalue()


@contextlib.contextmanager
def _small_disk(size: int) -> Iterator[None]:
    """A process that may write no file above a size is told what one on a full disk is told."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


@contextlib.contextmanager
def _another_user() -> Iterator[None]:
    """Permissions do not bind the superuser, so another user it is."""
    is_superuser = os.geteuid() == 0
    if is_superuser:
        os.setresuid(_NOBODY, _NOBODY, 0)
    try:
        yield
    finally:
        if is_superuser:
            os.setresuid(0, 0, 0)


TROUBLES: Mapping[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "": contextlib.nullcontext,
    "no space": lambda: _small_disk(50),
    "little space": lambda: _small_disk(50_000),
    "no permission": _another_user,
}
"""What is wrong with the computer while the command runs."""


def message(text: str) -> str:
    """Return what a row of the table says: the errors, cut, without the usage that argparse prints."""
    found = re.findall(r"^(?:error|failed|guided-attention.*?error|interrupted): .*", text, re.MULTILINE)
    cut = [line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …" for line in found]
    return " / ".join(cut)


def table(rows: Iterable[tuple[Use, int, str]]) -> str:
    """Return the table of the page."""
    lines = ["| what is wrong | `guided-attention …` | exit code | message |", "|---|---|--:|---|"]
    for use, code, text in rows:
        what = f"{use.what} ({use.trouble})" if use.trouble else use.what
        shown = message(text).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("`", "'")
        lines.append(f"| {what} | `{use.command}` | {code} | {shown} |".replace("| `` |", "| |"))
    return "\n".join(lines)


def help_texts() -> str:
    """Return what `--help` says, of the command and of each verb, in a terminal of 80 columns."""
    texts = []
    for verb in ("", *VERBS):
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
            make_parser().parse_args([*verb.split(), "--help"])
        command = " ".join(f"guided-attention {verb} --help".split())
        texts.append(f"### `{command}`\n\n```\n{output.getvalue().rstrip()}\n```")
    return "\n\n".join(texts)


def section(page: str, name: str) -> tuple[str, str, str]:
    """Return what stands before, between and after the marks of a part of the page."""
    before, begin, rest = page.partition(f"<!-- {name}: begin -->\n")
    inside, end, after = rest.partition(f"\n<!-- {name}: end -->")
    return before + begin, inside, end + after


def main() -> None:
    """Write the page anew."""
    os.environ["COLUMNS"] = "80"
    page = PAGE.read_text(encoding="utf-8")
    with make_world() as root:
        rows = [(use, *outcome(root, use)) for use in USES]
    for use, code, text in rows:
        if code != use.code:
            print(f"{use.command}: {code}, not {use.code}\n{text}")
    for name, text in (("table", table(rows)), ("help", help_texts())):
        before, _, after = section(page, name)
        page = before + text + after
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
