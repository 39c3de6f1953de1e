"""Run by tests/test_files.py in a process that may mount: every writer on a full and on a read-only disk."""

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from guided_attention._files import DRAFT_PREFIX
from guided_attention.errors import GuidedAttentionError, WriteError
from tests.test_files import FOLDERS, WRITERS, Writer

OLD = b"the old one"
PAGE = 4096


def fill(disk: Path, *, pages: int) -> None:
    """Leave so many pages of the disk."""
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(PAGE))
        except OSError:
            size = file.tell()
        file.truncate(size - pages * PAGE)


def refused(write: Writer, path: Path) -> GuidedAttentionError:
    try:
        write(path)
    except GuidedAttentionError as error:
        return error
    raise AssertionError(f"{path} was written")


def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "filler"}


def check(
    disk: Path, name: str, write: Writer, expected: dict[str, bytes], judge: Callable[..., None]
) -> None:
    judge(refused(write, disk / name), disk / name)
    assert held(disk) == expected, (name, sorted(held(disk)))


def is_full(error: GuidedAttentionError, path: Path) -> None:
    assert isinstance(error, WriteError), repr(error)
    assert error.errno == errno.ENOSPC
    assert str(path) in str(error), error
    assert " bytes are needed, " in str(error), error


def is_read_only(error: GuidedAttentionError, path: Path) -> None:
    assert str(path.parent) in str(error), error
    assert not isinstance(error, WriteError) or error.errno == errno.EROFS


def fill_the_disk_itself(disk: Path) -> None:
    """Write every folder to a mount point, which cannot be renamed."""
    for write in FOLDERS.values():
        subprocess.run(["mount", "-t", "tmpfs", "none", disk], check=True)
        write(disk)
        names = [path.name for path in disk.iterdir()]
        assert names, write
        assert not [name for name in names if name.startswith(DRAFT_PREFIX)], names
        subprocess.run(["umount", disk], check=True)


def main(disk: Path) -> None:
    fill_the_disk_itself(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
    for name, write in WRITERS.values():
        (disk / name).write_bytes(OLD)
        fill(disk, pages=1)
        check(disk, name, write, {name: OLD}, is_full)
        (disk / name).unlink()
        (disk / "filler").unlink()
    fill(disk, pages=2)
    for write in FOLDERS.values():
        check(disk, "new", write, {}, is_full)
    (disk / "filler").unlink()
    expected = {name: OLD for name, _ in WRITERS.values()}
    for name in expected:
        (disk / name).write_bytes(OLD)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for name, write in WRITERS.values():
        check(disk, name, write, expected, is_read_only)
    for write in FOLDERS.values():
        check(disk, "new", write, expected, is_read_only)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
