"""Cases: scans read from CHAOS, NIfTI, PNG or a phantom; split, normalised, cut into slices to train on."""

from guided_attention.data.case import Case, Volume
from guided_attention.data.chaos import (
    CHAOS_CT_LABELS,
    CHAOS_MR_LABELS,
    ChaosSource,
    read_chaos,
    read_chaos_case,
)
from guided_attention.data.dicom import read_dicom_series
from guided_attention.data.nifti import read_nifti, read_nifti_case, read_nifti_pairs, write_nifti
from guided_attention.data.phantom import PhantomSource, make_phantom, write_phantom_cohort
from guided_attention.data.slices import (
    PNG_GREY_LEVELS,
    SliceDataset,
    SliceTransform,
    read_png_slices,
    write_png_slices,
)
from guided_attention.data.splits import Split, k_fold, split_subjects
from guided_attention.data.transforms import (
    Chain,
    FlipRotate,
    RandomIntensity,
    crop_or_pad,
    flip_rotate,
    normalize,
    resample_in_plane,
    window,
)

__all__ = [
    "CHAOS_CT_LABELS",
    "CHAOS_MR_LABELS",
    "PNG_GREY_LEVELS",
    "Case",
    "Chain",
    "ChaosSource",
    "FlipRotate",
    "PhantomSource",
    "RandomIntensity",
    "SliceDataset",
    "SliceTransform",
    "Split",
    "Volume",
    "crop_or_pad",
    "flip_rotate",
    "k_fold",
    "make_phantom",
    "normalize",
    "read_chaos",
    "read_chaos_case",
    "read_dicom_series",
    "read_nifti",
    "read_nifti_case",
    "read_nifti_pairs",
    "read_png_slices",
    "resample_in_plane",
    "split_subjects",
    "window",
    "write_nifti",
    "write_phantom_cohort",
    "write_png_slices",
]
