"""A cohort of large volumes in a cache, to see what memory reading them takes."""

import math
from pathlib import Path

import numpy as np

from guided_attention.data import open_cohort, write_nifti
from guided_attention.preparation import Preparation
from guided_attention.sampling import CachedVolumes, VolumeCache

_SHAPE = (40, 64, 64)
STRIPES_BYTES = 4 * math.prod(_SHAPE)
"""What one volume takes in memory, without its labels."""


def cached_stripes(tmp_path: Path, count: int) -> tuple[CachedVolumes, Preparation]:
    """Write volumes whose every second slice is an organ, and return them prepared."""
    folder = tmp_path / "scans"
    folder.mkdir()
    volume = np.zeros(_SHAPE, np.float32)
    volume[::2] = 1
    for number in range(count):
        write_nifti(folder / f"c{number}_image.nii.gz", volume, np.eye(4))
        write_nifti(folder / f"c{number}_label.nii.gz", volume.astype(np.uint8), np.eye(4))
    cohort = open_cohort(folder)
    preparation = Preparation(slice_axis="axial", intensity=None).fit(cohort.select(["c0"]))
    return VolumeCache(tmp_path / "cache", preparation).volumes(cohort), preparation
