"""Writes tiny DICOM series with any geometry, for tests."""

from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def write_series(
    folder,
    volume,
    *,
    step=(0.0, 0.0, 5.0),
    first=(-10.0, 20.0, 30.0),
    orientation=AXIAL,
    pixel_mm=(1.5, 1.25),
    series="1",
    names=None,
    **tags,
):
    """Write the slices of an integer volume; extra tags go into each."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for i, pixels in enumerate(volume):
        slice_ = Dataset()
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.SOPClassUID = slice_.file_meta.MediaStorageSOPClassUID = MRImageStorage
        uid = generate_uid(entropy_srcs=[series, str(i)])
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = uid
        slice_.SeriesInstanceUID = generate_uid(entropy_srcs=[series])
        slice_.ImagePositionPatient = [float(a + i * b) for a, b in zip(first, step, strict=True)]
        slice_.ImageOrientationPatient = list(orientation)
        slice_.PixelSpacing = list(pixel_mm)
        slice_.SliceThickness = 3.25
        slice_.Rows, slice_.Columns = pixels.shape
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 0
        slice_.PixelData = pixels.astype("<u2").tobytes()
        for name, value in tags.items():
            setattr(slice_, name, value)
        if slice_.BitsAllocated == 8:
            slice_.PixelData = pixels.astype(np.uint8).tobytes() + bytes(pixels.size % 2)
        slice_.save_as(folder / (names[i] if names else f"i{i:04d}.dcm"), enforce_file_format=True)
    return folder


def write_masks(folder, masks, names=None):
    """Write a stack of uint8 masks as PNG."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for i, mask in enumerate(masks):
        Image.fromarray(mask).save(folder / (names[i] if names else f"i{i:04d}.png"))
    return folder


def numbered(depth=3, height=5, width=7):
    """Return a volume in which every voxel has another number."""
    return np.arange(depth * height * width).reshape(depth, height, width)
