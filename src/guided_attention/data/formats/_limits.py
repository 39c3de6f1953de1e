"""How much memory reading may take: one limit, judged before anything is unpacked."""

from pathlib import Path

from guided_attention._checks import require, require_count
from guided_attention.errors import DataError

__all__ = ["MAX_BYTES", "require_fits"]

MAX_BYTES = 4 * 2**30
"""What a volume may take in memory where readers are not told otherwise: 1024 x 1024 x 1000 voxels of float32."""


def require_fits(file: Path, needed: int, max_bytes: int) -> None:
    """Raise unless what a file unpacks to fits into the limit.

    >>> require_fits(Path("scan.nii.gz"), 3_800_000_000, max_bytes=2**30)
    Traceback (most recent call last):
    guided_attention.errors.DataError: `scan.nii.gz` must be a file that takes at most 1073741824 bytes of memory, ...
    """
    require_count("max_bytes", max_bytes)
    wanted = f"a file that takes at most {max_bytes} bytes of memory"
    cure = f"If it is meant to be that large, pass `max_bytes={needed}` or more to the reader or to `open_cohort`."
    got = f"one that takes {needed}"
    require(needed <= max_bytes, str(file), wanted, got, cure, error=DataError, file=file)
