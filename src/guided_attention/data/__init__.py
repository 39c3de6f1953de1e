"""Data: scans read from CHAOS, DICOM, NIfTI, PNG slices or a phantom; files written; splits."""

from guided_attention.data.chaos import (
    CHAOS_CT_LABELS,
    CHAOS_MR_LABELS,
    ChaosSource,
    read_chaos,
    read_chaos_case,
)
from guided_attention.data.cohort import Cohort, Layout, open_cohort
from guided_attention.data.dicom import read_dicom_series
from guided_attention.data.nifti import read_nifti, read_nifti_case, read_nifti_pairs, write_nifti
from guided_attention.data.phantom import PhantomSource, make_phantom, write_phantom_cohort
from guided_attention.data.png import PNG_GREY_LEVELS, read_png_slices, write_png_slices
from guided_attention.data.splits import Split, k_fold, split_subjects

__all__ = [
    "CHAOS_CT_LABELS",
    "CHAOS_MR_LABELS",
    "PNG_GREY_LEVELS",
    "ChaosSource",
    "Cohort",
    "Layout",
    "PhantomSource",
    "Split",
    "k_fold",
    "make_phantom",
    "open_cohort",
    "read_chaos",
    "read_chaos_case",
    "read_dicom_series",
    "read_nifti",
    "read_nifti_case",
    "read_nifti_pairs",
    "read_png_slices",
    "split_subjects",
    "write_nifti",
    "write_phantom_cohort",
    "write_png_slices",
]
