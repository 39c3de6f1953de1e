"""Damages small data sets at random and reads them by every reader.

    python -m tests.data.fuzz --inputs 20000 --seed 0

Holds each reader to this: it returns arrays, or raises one of our errors that names a file, within a time and a memory;
and where a checksum tells of damage, what it returns is what was written. An input is made from the seed and its number
alone: `--start 17 --inputs 1` reads number 17 again.
"""

import argparse
import contextlib
import io
import logging
import re
import resource
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tests.data.doors import DOORS, SHAPE, Door, quiet, repacked

from guided_attention.errors import GuidedAttentionError

LIMIT = 2**20
"""`max_bytes` of the readers."""
MEMORY = 300 * 2**20
"""What the process may take beyond what it has after one reading of each data set."""
SECONDS = 60
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FC00000)
TOKENS = ("-1", "0", "1e400", "NaN", "null", "[]", "{}", '"x"', "9" * 400, "true", '"²"', "\\", "[[[[")

Rng = np.random.Generator
Change = Callable[[Rng, bytearray], bytearray]


class Hang(BaseException):
    """An input took too long; no reader catches this."""


def _flip(rng: Rng, content: bytearray) -> bytearray:
    for _ in range(rng.integers(1, 4) if content else 0):
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    return content


def _bytes(rng: Rng, content: bytearray) -> bytearray:
    for _ in range(rng.integers(1, 9) if content else 0):
        content[rng.integers(len(content))] = rng.integers(256)
    return content


def _cut(rng: Rng, content: bytearray) -> bytearray:
    return content[: rng.integers(len(content) + 1)]


def _repeat(rng: Rng, content: bytearray) -> bytearray:
    first, last = sorted(rng.integers(len(content) + 1, size=2))
    return content[:last] + content[first:]


def _drop(rng: Rng, content: bytearray) -> bytearray:
    first, last = sorted(rng.integers(len(content) + 1, size=2))
    return content[:first] + content[last:]


def _extreme(rng: Rng, content: bytearray) -> bytearray:
    """Write an extreme number over a field of the header."""
    size = int(rng.choice([1, 2, 4, 8]))
    order = ("little", "big")[rng.integers(2)]
    number = (int(rng.choice(EXTREMES)) * (2**32 + 1 if size == 8 else 1)) % 2 ** (8 * size)
    place = int(rng.integers(max(1, min(len(content), 700) - size)))
    content[place : place + size] = number.to_bytes(size, order)
    return content


def _word(rng: Rng, content: bytearray) -> bytearray:
    """Replace a number or a name in a text by another."""
    words = list(re.finditer(rb"[\w.+-]+", bytes(content[:4000])))
    if not words:
        return content
    word, token = words[rng.integers(len(words))], TOKENS[rng.integers(len(TOKENS))].encode()
    return content[: word.start()] + token + content[word.end() :]


def _append(rng: Rng, content: bytearray) -> bytearray:
    return content + rng.bytes(int(rng.integers(1, 99)))


CHANGES: Sequence[Change] = (_flip, _bytes, _cut, _repeat, _drop, _extreme, _extreme, _word, _append)


@dataclass
class Tally:
    """What the inputs came to."""

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    slowest: tuple[float, int, str] = (0.0, 0, "")
    faults: list[str] = field(default_factory=list)
    messages: Counter[str] = field(default_factory=Counter)


def damage(rng: Rng, files: Sequence[Path]) -> tuple[list[Path], bool]:
    """Damage one file, or swap two; return those changed, and whether a checksum has been made to fit the damage."""
    path = files[rng.integers(len(files))]
    if len(files) > 1 and rng.random() < 0.05:
        other = files[rng.integers(len(files))]
        one, two = path.read_bytes(), other.read_bytes()
        path.write_bytes(two)
        other.write_bytes(one)
        return [path, other], True
    change, content = CHANGES[rng.integers(len(CHANGES))], path.read_bytes()
    if path.suffix == ".gz" and rng.random() < 0.5:
        path.write_bytes(repacked(content, lambda inside: change(rng, inside)))
        return [path], True
    path.write_bytes(change(rng, bytearray(content)))
    return [path], False


@dataclass
class Target:
    """A reader, the data set that it reads, and what it returns while that is whole."""

    name: str
    door: Door
    folder: Path
    wanted: Sequence[np.ndarray]


def try_one(target: Target, seed: int, number: int, tally: Tally) -> None:
    """Damage a data set, read it, say what was wrong with that, and mend it."""
    rng, folder = np.random.default_rng([seed, number]), target.folder
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    whole = {path: path.read_bytes() for path in files}
    changed, fits = damage(rng, files)
    start = time.perf_counter()
    label = f"{number} ({target.name}, {', '.join(path.name for path in changed)})"
    try:
        with _watched():
            arrays = quiet(target.door.read, folder, LIMIT)
        tally.accepted += 1
        is_checked = not fits and all(path.name.endswith(target.door.checked or "/") for path in changed)
        if is_checked and not _equal(arrays, target.wanted):
            tally.faults.append(f"{label}: changed voxels were accepted")
    except GuidedAttentionError as error:
        tally.refused += 1
        wanted = str(error).split(", got ")[0].replace(str(folder), "")
        tally.messages[f"{target.name}: {re.sub('[0-9]+', '#', wanted)[:90]}"] += 1
        if error.file is None and str(folder) not in str(error):
            tally.faults.append(f"{label}: no file in {error}")
    except (Exception, Hang):  # noqa: BLE001 - anything else is what this looks for
        tally.faults.append(f"{label}: {traceback.format_exc(limit=-4)}")
    tally.inputs += 1
    tally.slowest = max(tally.slowest, (time.perf_counter() - start, number, target.name))
    for path in changed:
        path.write_bytes(whole[path])


def _equal(arrays: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> bool:
    return len(arrays) == len(wanted) and all(map(np.array_equal, arrays, wanted))


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    def stop(_signal: int, _frame: object) -> None:
        raise Hang(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def targets(folder: Path, names: Sequence[str] = tuple(DOORS)) -> list[Target]:
    """Write the data set of each reader into a folder of its own, and read it."""
    found = []
    for name in names:
        (folder / name).mkdir()
        DOORS[name].write(folder / name, SHAPE)
        found.append(Target(name, DOORS[name], folder / name, quiet(DOORS[name].read, folder / name, 2**30)))
    return found


def run(readers: Sequence[Target], numbers: range, seed: int, report: Callable[[Tally], object]) -> Tally:
    """Try the inputs of some numbers, the readers in turn, and report after each."""
    tally = Tally()
    logging.disable(logging.CRITICAL)
    try:
        for number in numbers:
            try_one(readers[number % len(readers)], seed, number, tally)
            report(tally)
    finally:
        logging.disable(logging.NOTSET)
    return tally


def _limit_memory() -> None:
    size = re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    most = int(size[1]) * 1024 + MEMORY if size else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def _report(tally: Tally) -> None:
    if tally.inputs % 1000 == 0:
        print(f"{tally.inputs} inputs, {len(tally.faults)} faults", flush=True)


def main() -> None:
    """Read the arguments, try the inputs, print what came of them; the exit code is 1 where a reader was at fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--reader", action="append", choices=list(DOORS))
    parser.add_argument("--messages", action="store_true", help="list what was refused, and how often")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        before = time.perf_counter()
        readers = targets(folder, options.reader or list(DOORS))
        _limit_memory()
        tally = run(readers, range(options.start, options.start + options.inputs), options.seed, _report)
        seconds = time.perf_counter() - before
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for message, count in tally.messages.most_common() if options.messages else ():
        print(count, message)
    for fault in tally.faults:
        print(fault)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    slowest, number, name = tally.slowest
    print(f"{tally.inputs} inputs in {seconds:.0f} s: {tally.accepted} accepted, {tally.refused} refused, ")
    print(f"{len(tally.faults)} faults; slowest {slowest:.2f} s (number {number}, {name}); peak {peak} MB")
    raise SystemExit(bool(tally.faults))


if __name__ == "__main__":
    main()
