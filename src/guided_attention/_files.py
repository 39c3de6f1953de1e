"""Files that are whole or not there at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Hand out a temporary name beside `path`, and move it to `path` once the block has ended well.

    A block that fails leaves what stood at `path` before. A process killed inside the block leaves the
    temporary file too, which the next writing of the same `path` uses again.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"`path` must be in a folder that exists, got {path}. Make the folder first.")
    temporary = path.with_name(f".unfinished.{path.name}")  # the ending stays: writers go by it
    try:
        yield temporary
        _flush_to_disk(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _flush_to_disk(path: Path) -> None:
    """Wait for the disk: without this a power cut can leave the new name on an empty file."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
