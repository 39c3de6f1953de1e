"""What the command line prints: results on standard output, all else on standard error, a line each."""

import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TextIO

from guided_attention.errors import GuidedAttentionError

if TYPE_CHECKING:
    from guided_attention.inference import LedgerEntry

__all__ = [
    "CASES_FAILED",
    "DONE",
    "FAILED",
    "INTERRUPTED",
    "WRONG_USAGE",
    "CaseReport",
    "in_words_of_a_shell",
    "output_lost",
    "plain_warnings",
    "print_json",
    "print_nested",
    "say",
    "shell_words",
    "tell",
]

DONE, FAILED, WRONG_USAGE, CASES_FAILED, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes."""
_LONG = ("reasons", "fingerprint", "colours", "version")
output_lost: list[str] = []
"""Why lines of the result could not be written: the command has failed then, whatever else it did."""

_WORDS = {
    "`train_folds(run, folds=N, resume=True)`": "`guided-attention train RUN --folds N --resume`",
    "`train_folds(run, folds=N)`": "`guided-attention train RUN --folds N`",
    "Set resume=True": "Pass --resume",
    "Set resume=False": "Leave out --resume",
    "resume=True": "--resume",
    "Set overwrite=True": "Pass --overwrite",
    "set overwrite=True": "pass --overwrite",
    "overwrite=True": "--overwrite",
    "set take_over=True": "pass --take-over",
    "take_over=True": "--take-over",
    "`finalize(run)`": "`guided-attention finalize RUN`",
    "`plan_for(data).save(path)`": "`guided-attention plan DATA --out RUN`",
    "`values`": "`--set`",
    "leave `shard` out": "pass --shard 1/1",
    "`also` must be": "`--also` must be",
    "pass channels=()": "list them in a CSV file",
    "Set a smaller batch_size in the Predictor, or predict on another device. Or set a smaller patch_size, and predict "
    "into another folder: it changes the labels": "Pass --device, or set a smaller inference.batch_size or "
    "inference.patch_size in the plan, before the training",
    "Set workers=": "Pass --workers ",
    ' In a script, call it below `if __name__ == "__main__":`.': "",
    "`spacing_mm` changes nothing": "--spacing changes nothing",
    "`channels` changes nothing": "--channel changes nothing",
    "`resample_channels` changes nothing": "--resample-channels changes nothing",
    "`series` changes nothing": "--series changes nothing",
    "Pass `labels`, such as LabelSpec({1: 'liver'})": "Name them with --organ, such as --organ 1=liver",
}
"""What messages call things in Python, and what a shell calls them."""
_OPENING = ("check", "convert", "plan")
_BY_VERB = (
    (", or pass `spacing_mm`", _OPENING, ", or pass --spacing", ""),
    (
        "Pass resample_channels=True to interpolate it onto that grid",
        _OPENING,
        "Pass --resample-channels to interpolate it onto that grid",
        "Interpolate it onto that grid first, with `guided-attention convert --resample-channels`",
    ),
    (
        "Give `series` one of these names, or each series",
        (*_OPENING, "predict"),
        "Pass --series with one of these names, or give each series",
        "Give each series",
    ),
    ("pass `max_bytes=", _OPENING, "pass `--max-bytes ", "set `data.max_bytes="),
    (
        " to the reader or to `open_cohort`",
        _OPENING,
        " (or set data.max_bytes in the plan)",
        " in the plan",
    ),
)
"""What messages call options that only some verbs have, these verbs, and what to say there and elsewhere."""
_CLEAR_LINE = "\r\x1b[K"


def say(text: str) -> None:
    """Write a line of the result to standard output."""
    _write("stdout", f"{text}\n")


def tell(text: str) -> None:
    """Write a line about the work to standard error."""
    _write("stderr", f"{' '.join(text.split())}\n")


def _write(name: Literal["stdout", "stderr"], text: str) -> None:
    """Write and flush; a reader that is gone (``| head``) or a full disk ends the reports, not the work."""
    stream: TextIO | None = sys.stdout if name == "stdout" else sys.stderr
    if stream is None:
        return
    encoding = stream.encoding or "utf-8"
    # Names of files may hold letters that the console has not, or bytes that are no letters.
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        if name == "stdout" and not isinstance(error, BrokenPipeError):
            output_lost.append(str(error.strerror))
            tell(f"error: standard output cannot be written: {error.strerror}. The work goes on without it.")


def print_json(value: object, *, indent: int | None = None) -> None:
    """Write plain values as JSON; NaN and infinite numbers, which JSON has not, as null."""
    say(json.dumps(_finite(value), indent=indent, allow_nan=False))


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else value


def print_nested(values: Mapping[str, object], indent: str = "") -> None:
    """Write nested mappings as indented lines, without what is long: JSON has all."""
    for key, value in values.items():
        if key in _LONG:
            continue
        if isinstance(value, Mapping) and value:
            say(f"{indent}{key}")
            print_nested(value, f"{indent}  ")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            say(f"{indent}{key}: {text}")


@contextmanager
def plain_warnings(verb: str) -> Iterator[None]:
    """Show each warning as one line, without file and code, in the words of a verb."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("default", UserWarning)

        def show(
            message: Warning | str,
            category: type[Warning],  # noqa: ARG001 - the signature of `warnings.showwarning`
            filename: str,  # noqa: ARG001
            lineno: int,  # noqa: ARG001
            file: TextIO | None = None,  # noqa: ARG001
            line: str | None = None,  # noqa: ARG001
        ) -> None:
            tell(f"warning: {shell_words(str(message), verb)}")

        warnings.showwarning = show
        yield


class CaseReport:
    """Reports cases one after another, above a bar where standard error is a terminal.

    Args:
        total: How many cases there are; 0 where that is unknown, which shows no bar.
        show: Writes the line of a case.
    """

    def __init__(self, total: int, show: "Callable[[LedgerEntry], None]") -> None:
        self.entries: list[LedgerEntry] = []
        self._total = total
        self._show = show
        self._started = time.monotonic()

    def __call__(self, entry: "LedgerEntry") -> None:
        """Take the entry of a case that is finished."""
        self.entries.append(entry)
        if self._total:
            _write("stderr", _CLEAR_LINE)
        self._show(entry)
        if self._total > len(self.entries):
            _write("stderr", self._bar())

    def _bar(self) -> str:
        from guided_attention.training.progress import format_duration  # noqa: PLC0415

        done = len(self.entries)
        seconds = (time.monotonic() - self._started) / done * (self._total - done)
        filled = "#" * (20 * done // self._total)
        return f"{done}/{self._total} |{filled:20}| ETA {format_duration(seconds)}"


def in_words_of_a_shell(error: GuidedAttentionError | OSError, verb: str) -> str:
    """Return the message of an error of a verb, as a shell calls things."""
    if isinstance(error, OSError) and not isinstance(error, GuidedAttentionError):
        return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    return shell_words(str(error), verb)


def shell_words(text: str, verb: str) -> str:
    """Return a text in which options have the names that they have on the command line of a verb."""
    by_verb = {word: there if verb in verbs else elsewhere for word, verbs, there, elsewhere in _BY_VERB}
    for word, other in (_WORDS | by_verb).items():
        text = text.replace(word, other)
    return text
