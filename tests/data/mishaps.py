"""What happens to single files on the way to a reader, whichever reader it is, and what each of them says."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from guided_attention.errors import GuidedAttentionError

SAME = ""
"""What a reader returns is as if nothing had happened."""


@dataclass(frozen=True)
class Mishap:
    """One thing that happens to a file.

    Attributes:
        sentence: What has happened, for a user.
        happen: Does it to a file, and returns the files that did not exist before.
        wanted: What every reader says, a regular expression; `SAME` where it returns what it should.
        only: Endings of the files that it can happen to, all where left out.
        but: Endings of those that it cannot happen to.
    """

    sentence: str
    happen: Callable[[Path], Sequence[Path]]
    wanted: str
    only: tuple[str, ...] = ("",)
    but: tuple[str, ...] = ()

    def fits(self, path: Path) -> bool:
        """Return whether it can happen to a file."""
        return path.name.endswith(self.only) and not (self.but and path.name.endswith(self.but))


def _content(change: Callable[[bytes], bytes]) -> Callable[[Path], Sequence[Path]]:
    def happen(path: Path) -> Sequence[Path]:
        path.write_bytes(change(path.read_bytes()))
        return ()

    return happen


def _link(path: Path) -> Sequence[Path]:
    path.unlink()
    path.symlink_to("/annex/objects/9f")
    return ()


def _beside(name: str, content: bytes) -> Callable[[Path], Sequence[Path]]:
    def happen(path: Path) -> Sequence[Path]:
        other = path.with_name(name.format(name=path.name))
        other.write_bytes(content)
        return (other,)

    return happen


def _folder(path: Path) -> Sequence[Path]:
    path.unlink()
    path.mkdir()
    return (path,)


_SAYS = "must be|holds no|no image|no mask"
_PACKED = (".gz", ".png", ".npz", ".nrrd", ".mha")
_TEXT = (".json", ".nhdr", ".img", ".raw")
_RAW = (".img", ".raw")
"""Files of voxels only: all zeros are voxels as well."""
MISHAPS = (
    Mishap("A link leads nowhere.", _link, _SAYS),
    Mishap(
        "A folder has the name of the file.", _folder, _SAYS, but=(".nii.gz",)
    ),  # a missing mask is a warning
    Mishap("The file is empty.", _content(lambda _: b""), _SAYS),
    Mishap("Only the first byte was copied.", _content(lambda data: data[:1]), _SAYS),
    Mishap("Only the first half was copied.", _content(lambda data: data[: len(data) // 2]), _SAYS),
    Mishap("The last byte is missing.", _content(lambda data: data[:-1]), _SAYS, _PACKED),
    Mishap("The file is all zeros.", _content(lambda data: bytes(len(data))), _SAYS, but=_RAW),
    Mishap("An error page was downloaded.", _content(lambda _: b"<html>404 Not Found</html>"), _SAYS),
    Mishap(
        "A pointer of Git LFS is there.",
        _content(lambda _: b"version https://git-lfs.github.com/spec/v1\n"),
        _SAYS,
    ),
    Mishap(
        "The file was converted to UTF-8.",
        _content(lambda data: data.decode("latin-1").encode()),
        _SAYS,
        but=_TEXT,
    ),
    Mishap(
        "Line ends were converted on the way.",
        _content(lambda data: data.replace(b"\n", b"\r\n")),
        f"{_SAYS}|^$",
        (".gz", ".png"),
    ),
    Mishap("Finder left .DS_Store.", _beside(".DS_Store", b"\0\0\0\1Bud1"), SAME),
    Mishap("macOS left its second half of the file.", _beside("._{name}", b"\0\5\26\7"), SAME),
    Mishap("Windows left Thumbs.db.", _beside("Thumbs.db", b"\xd0\xcf\x11\xe0"), SAME),
    Mishap("Windows left desktop.ini.", _beside("desktop.ini", b"[.ShellClassInfo]\r\n"), SAME),
)


PAGE = Path(__file__).parents[2] / "docs/how-to/check.md"


def rows() -> list[str]:
    """Return the rows of the table of the page: what has happened, and what is said of it."""
    met = {SAME: "read as if nothing had happened"}
    return [
        f"| {mishap.sentence} | {met.get(mishap.wanted, 'an error that names the file')} |"
        for mishap in MISHAPS
    ]


def says(read: Callable[[], object]) -> tuple[str, GuidedAttentionError | None]:
    """Return the message of our error and the error, or nothing."""
    try:
        read()
    except GuidedAttentionError as error:
        return re.sub(r"\s+", " ", str(error)), error
    return "", None
