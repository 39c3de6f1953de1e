"""Data: scans read from CHAOS, DICOM, NIfTI and other volumes, PNG slices or a phantom; files written; splits."""

from guided_attention.data.chaos import (
    CHAOS_CT_LABELS,
    CHAOS_MR_LABELS,
    ChaosSource,
    read_chaos,
    read_chaos_case,
)
from guided_attention.data.checks import CheckReport, Suspicion, check
from guided_attention.data.cohort import Cohort, Layout, Opening, open_cohort
from guided_attention.data.convert import TargetLayout, convert
from guided_attention.data.dicom import DicomSeries, find_dicom_series, read_dicom_series
from guided_attention.data.dicom_seg import Segments, read_dicom_seg, write_dicom_seg
from guided_attention.data.nifti import read_nifti, read_nifti_case, read_nifti_pairs, write_nifti
from guided_attention.data.phantom import (
    ACCIDENTS,
    Accident,
    PhantomLayout,
    PhantomSource,
    make_phantom,
    plant_accident,
    write_phantom_cohort,
)
from guided_attention.data.png import PNG_GREY_LEVELS, read_png_slices, write_png_slices
from guided_attention.data.rtstruct import read_rtstruct, write_rtstruct
from guided_attention.data.splits import (
    Patients,
    Split,
    k_fold,
    read_nnunet_splits,
    split_subjects,
    write_nnunet_splits,
)
from guided_attention.data.volume import read_slicer_seg, read_volume, read_volume_case

__all__ = [
    "ACCIDENTS",
    "CHAOS_CT_LABELS",
    "CHAOS_MR_LABELS",
    "PNG_GREY_LEVELS",
    "Accident",
    "ChaosSource",
    "CheckReport",
    "Cohort",
    "DicomSeries",
    "Layout",
    "Opening",
    "Patients",
    "PhantomLayout",
    "PhantomSource",
    "Segments",
    "Split",
    "Suspicion",
    "TargetLayout",
    "check",
    "convert",
    "find_dicom_series",
    "k_fold",
    "make_phantom",
    "open_cohort",
    "plant_accident",
    "read_chaos",
    "read_chaos_case",
    "read_dicom_seg",
    "read_dicom_series",
    "read_nifti",
    "read_nifti_case",
    "read_nifti_pairs",
    "read_nnunet_splits",
    "read_png_slices",
    "read_rtstruct",
    "read_slicer_seg",
    "read_volume",
    "read_volume_case",
    "split_subjects",
    "write_dicom_seg",
    "write_nifti",
    "write_nnunet_splits",
    "write_phantom_cohort",
    "write_png_slices",
    "write_rtstruct",
]
