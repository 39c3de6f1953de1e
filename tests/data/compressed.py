"""Compresses DICOM slices by the encoders of pydicom and of GDCM."""

import base64
import io
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
)

__all__ = ["HTJ2K_PICTURE", "compress"]

_BY_GDCM = {
    JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
}
HTJ2K_PICTURE = (
    (11, 13),
    base64.b64decode(
        "/0//UQApQAAAAAANAAAACwAAAAAAAAAAAAAADQAAAAsAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wA"
        "EyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAOkAAf+TwAAmG/wFB3QAAMAAEsAA"
        "EsAAEwBIAYd0AIQBh3QATfkDB3QAwAAVMAAE8AAE4Ayn0mT+AMG0ADhg+ACCNADy8Z4AwjQAwAAV8AAFqwAAWiA3jCVWrDOq"
        "AABbgxD8uABNYYCBDbJnSJkPwoNPsgbfxjAgVwDhxdBnDOM5BOQJC/4hALxYAMAALagABbkAALVAe/g9H5928nX4dvOxm08+"
        "PsCW9h8MEJRDWgB7IGN+h5OPMdjloy52293ECKZ8MAIEJQjAd10A85mfPy9f/nbanc/Eh8oTHBmUg1oA/9k="
    ),
)
"""Size and content of a picture that OpenJPH has encoded; no package here encodes HTJ2K."""


def htj2k_pixels() -> np.ndarray:
    """Return what the picture shows."""
    y, x = np.indices(HTJ2K_PICTURE[0])
    return ((11 * y + 7 * x) * 9 % 1000).astype(np.uint16)


def compress(path: Path, syntax: UID) -> None:
    """Compress one slice, without loss but for JPEG; HTJ2K replaces its pixels."""
    if syntax in _BY_GDCM:
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(path))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(_BY_GDCM[syntax]))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return
    content = pydicom.dcmread(path)
    pictures = {HTJ2KLossless: HTJ2K_PICTURE[1]}
    if syntax == JPEGBaseline8Bit:
        stream = io.BytesIO()
        Image.fromarray(content.pixel_array).save(stream, "JPEG", quality=95)
        pictures[syntax] = stream.getvalue()
    if syntax in {DeflatedExplicitVRLittleEndian, *pictures}:
        content.file_meta.TransferSyntaxUID = syntax
    else:
        content.compress(syntax)
    if syntax in pictures:
        content.PixelData = encapsulate([pictures[syntax]])
        content["PixelData"].VR = "OB"
    content.save_as(path)
