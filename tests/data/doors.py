"""Every reader with a small data set that it reads: for tests that hold all of them to one rule."""

import gzip
import json
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from tests.data.compressed import compress
from tests.data.dicom_maker import write_series
from tests.data.test_dicom_folders import write_enhanced
from tests.data.test_dicom_seg import ORGANS, identified_series

from guided_attention.data import (
    Split,
    make_phantom,
    open_cohort,
    read_chaos_case,
    read_dicom_seg,
    read_dicom_series,
    read_nifti,
    read_nifti_case,
    read_nnunet_splits,
    read_png_slices,
    read_rtstruct,
    read_slicer_seg,
    write_dicom_seg,
    write_nifti,
    write_nnunet_splits,
    write_phantom_cohort,
    write_png_slices,
    write_rtstruct,
)
from guided_attention.data._files import files_in
from guided_attention.data.volume import read_volume, read_volume_case

Array = np.ndarray
SHAPE = (3, 11, 13)
"""The size of the picture in HTJ2K as well."""


@dataclass(frozen=True)
class Door:
    """A reader and what it reads.

    Attributes:
        write: Writes a data set of volumes of a shape (depth, height, width) into an empty folder.
        read: Reads all of it under a limit of memory, and returns its arrays.
        checked: Endings of the files in which a checksum tells every change of voxels.
    """

    write: Callable[[Path, Sequence[int]], object]
    read: Callable[[Path, int], Sequence[Array]]
    checked: tuple[str, ...] = ()


def volume_of(shape: Sequence[int]) -> Array:
    """Return smooth numbers from 0 to 999 with some noise, each voxel another."""
    z, y, x = np.indices(shape)
    noise = np.random.default_rng(0).integers(0, 9, shape)
    return ((37 * z + 11 * y + 7 * x) % 990 + noise).astype(np.int16)


def labels_of(shape: Sequence[int]) -> Array:
    """Return two boxes with the labels 1 and 4."""
    labels = np.zeros(shape, np.uint8)
    labels[:, 2:6, 2:7], labels[1:, 5:9, 6:11] = 1, 4
    return labels


def _nifti(name: str, scaled: bool = False) -> Callable[[Path, Sequence[int]], object]:
    def write(folder: Path, shape: Sequence[int]) -> None:
        image = nibabel.Nifti1Image(volume_of(shape).T, np.diag([-1.5, -1.25, 5, 1]))
        image.header.set_xyzt_units("mm")
        if scaled:
            image.header.set_slope_inter(0.5, -3)
        kind = nibabel.Nifti1Pair if name.endswith("img") else nibabel.Nifti1Image
        kind(image.dataobj, image.affine, image.header).to_filename(folder / name)

    return write


def _case(folder: Path, shape: Sequence[int]) -> None:
    affine = np.diag([-1.5, -1.25, 5, 1])
    write_nifti(folder / "a_image.nii.gz", volume_of(shape), affine)
    write_nifti(folder / "a_label.nii.gz", labels_of(shape), affine)


def _task(ending: str) -> Callable[[Path, Sequence[int]], object]:
    def write(folder: Path, shape: Sequence[int]) -> None:
        for name in ("imagesTr", "labelsTr"):
            (folder / name).mkdir()
        affine = np.diag([-1.5, -1.25, 5, 1])
        for case in ("a_01", "a_02"):
            write_nifti(folder / f"imagesTr/{case}{ending}.nii.gz", volume_of(shape), affine)
            write_nifti(folder / f"labelsTr/{case}.nii.gz", labels_of(shape), affine)
        fields = {
            "labels": {"background": 0, "liver": 1, "left kidney": 4},
            "channel_names": {"0": "MR"},
            "numTraining": 2,
            "file_ending": ".nii.gz",
        }
        (folder / "dataset.json").write_text(json.dumps(fields), encoding="utf-8")

    return write


def _pairs(folder: Path, shape: Sequence[int]) -> None:
    affine = np.diag([-1.5, -1.25, 5, 1])
    for case in ("a_01", "a_02"):
        write_nifti(folder / f"{case}_image.nii.gz", volume_of(shape), affine)
        write_nifti(folder / f"{case}_label.nii.gz", labels_of(shape), affine)
    fields = {"train": ["a_01"], "test": ["a_02"], "labels": {"1": "liver", "4": "spleen"}}
    (folder / "cases.json").write_text(json.dumps(fields), encoding="utf-8")


def _series(syntax: UID) -> Callable[[Path, Sequence[int]], object]:
    def write(folder: Path, shape: Sequence[int]) -> None:
        is_lossy = syntax == JPEGBaseline8Bit
        bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7} if is_lossy else {}
        pixels = volume_of(shape) // 4 if is_lossy else volume_of(shape)
        write_series(folder, pixels, RescaleSlope=2, RescaleIntercept=-1000, **bits)
        for path in folder.iterdir() if syntax != ExplicitVRLittleEndian else ():
            compress(path, syntax)

    return write


def _enhanced(folder: Path, shape: Sequence[int]) -> None:
    write_enhanced(folder / "all.dcm", volume_of(shape)[None], step_mm=4.0, echoes=(2.3,))


def _seg(folder: Path, shape: Sequence[int]) -> None:
    series = identified_series(folder / "series", volume_of(shape))
    write_dicom_seg(folder / "seg.dcm", labels_of(shape), series, ORGANS)


def _rtstruct(folder: Path, shape: Sequence[int]) -> None:
    series = identified_series(folder / "series", volume_of(shape))
    write_rtstruct(folder / "rt.dcm", labels_of(shape), series, ORGANS)


def _png(folder: Path, shape: Sequence[int]) -> None:
    case = make_phantom(0, size=max(shape[2], 16))
    write_png_slices([case], folder / "train")
    for part in ("Img", "GT"):
        _keep_first(folder / "train" / part, shape[0])
    (folder / "dataset.json").write_text('{"spacing_mm": [7.0, 11.5, 11.5]}', encoding="utf-8")


def _keep_first(folder: Path, count: int) -> None:
    """Delete all but the first slices: phantoms have more than a test needs."""
    for path in files_in(folder)[count:]:
        path.unlink()


def _chaos(folder: Path, shape: Sequence[int]) -> None:
    write_phantom_cohort(folder / "chaos", subjects=1, size=max(shape[2], 16))
    for path in sorted(folder.rglob("chaos/**/*")):
        if path.name in {"InPhase", "OutPhase", "Ground"} or path.match("T2SPIR/DICOM_anon"):
            _keep_first(path, shape[0])


def _nrrd(name: str) -> Callable[[Path, Sequence[int]], object]:
    """Return what writes a NRRD file, packed by gzip, or its header beside its voxels."""

    def write(folder: Path, shape: Sequence[int]) -> None:
        content = volume_of(shape).astype("<i2").tobytes()
        is_alone = name.endswith(".nrrd")
        lines = [
            "NRRD0004",
            "type: int16",
            "dimension: 3",
            "space: left-posterior-superior",
            f"sizes: {shape[2]} {shape[1]} {shape[0]}",
            "space directions: (1.5,0,0) (0,1.25,0) (0,0,5)",
            "space origin: (-10,20,30)",
            "endian: little",
            f"encoding: {'gzip' if is_alone else 'raw'}",
            *([] if is_alone else ["data file: a.raw"]),
        ]
        header = ("\n".join(lines) + "\n\n").encode()
        (folder / name).write_bytes(header + gzip.compress(content) if is_alone else header)
        if not is_alone:
            (folder / "a.raw").write_bytes(content)

    return write


def _metaimage(folder: Path, shape: Sequence[int]) -> None:
    content = zlib.compress(volume_of(shape).astype("<i2").tobytes())
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        "CompressedData = True",
        f"CompressedDataSize = {len(content)}",
        "TransformMatrix = 1 0 0 0 1 0 0 0 1",
        "Offset = -10 20 30",
        "ElementSpacing = 1.5 1.25 5",
        f"DimSize = {shape[2]} {shape[1]} {shape[0]}",
        "ElementType = MET_SHORT",
        "ElementDataFile = LOCAL",
    ]
    (folder / "a.mha").write_bytes(("\n".join(lines) + "\n").encode() + content)


def _numpy(folder: Path, shape: Sequence[int]) -> None:
    np.save(folder / "a.npy", volume_of(shape))


def _archive(folder: Path, shape: Sequence[int]) -> None:
    np.savez_compressed(folder / "a.npz", image=volume_of(shape), label=labels_of(shape))


def _tiff(folder: Path, shape: Sequence[int]) -> None:
    first, *others = (Image.fromarray(page.astype(np.uint16)) for page in volume_of(shape))
    first.save(folder / "a.tif", save_all=True, append_images=others, compression="tiff_deflate")


def _picture(ending: str) -> Callable[[Path, Sequence[int]], object]:
    def write(folder: Path, shape: Sequence[int]) -> None:
        pixels = np.stack([volume_of(shape)[0] // 4] * 3, axis=-1).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"a.{ending}")

    return write


def _read_volume(name: str) -> Callable[[Path, int], Sequence[Array]]:
    def read(folder: Path, max_bytes: int) -> list[Array]:
        has_spacing = name.endswith(("rrd", "hdr", "mha"))
        spacing_mm = None if has_spacing else (5.0, 1.25, 1.5)
        volume = read_volume(folder / name, spacing_mm=spacing_mm, max_bytes=max_bytes)
        return [volume.array, volume.affine]

    return read


def _read_archive(folder: Path, max_bytes: int) -> list[Array]:
    file = folder / "a.npz"
    return _arrays([read_volume_case(file, file, spacing_mm=(5.0, 1.25, 1.5), max_bytes=max_bytes)])


def _splits(folder: Path, _shape: Sequence[int]) -> None:
    splits = [Split(("1", "2"), ("3",), ()), Split(("3", "2"), ("1",), ())]
    write_nnunet_splits(folder / "splits_final.json", splits)


def _read_series(folder: Path, max_bytes: int) -> list[Array]:
    volume = read_dicom_series(folder, max_bytes=max_bytes)
    return [volume.array, volume.affine]


def _read_nifti(name: str) -> Callable[[Path, int], Sequence[Array]]:
    def read(folder: Path, max_bytes: int) -> list[Array]:
        volume = read_nifti(folder / name, max_bytes=max_bytes)
        return [volume.array, volume.affine]

    return read


def _structures(folder: Path, shape: Sequence[int]) -> None:
    (folder / "s1/segmentations").mkdir(parents=True)
    write_nifti(folder / "s1/ct.nii.gz", volume_of(shape), np.eye(4))
    for value, name in ((1, "liver"), (4, "spleen")):
        mask = (labels_of(shape) == value).astype(np.uint8)
        write_nifti(folder / f"s1/segmentations/{name}.nii.gz", mask, np.eye(4))


def _slicer(folder: Path, shape: Sequence[int]) -> None:
    head = ["NRRD0004", "type: uint8", "dimension: 3", "space: RAS", "encoding: gzip"]
    head += [f"sizes: {shape[2]} {shape[1]} {shape[0]}", "space directions: (1,0,0) (0,1,0) (0,0,1)"]
    for number, (name, value) in enumerate((("liver", 1), ("spleen", 4))):
        head += [f"Segment{number}_Name:={name}", f"Segment{number}_LabelValue:={value}"]
    voxels = gzip.compress(labels_of(shape).astype(np.uint8).tobytes())
    (folder / "a.seg.nrrd").write_bytes("\n".join([*head, "", ""]).encode() + voxels)


def _arrays(cases) -> list[Array]:
    return [part for case in cases for part in (case.image, case.labels, case.affine) if part is not None]


def _read_cohort(folder: Path, max_bytes: int) -> list[Array]:
    return _arrays(open_cohort(folder, max_bytes=max_bytes))


def _read_splits(folder: Path, _max_bytes: int) -> list[Array]:
    return [np.array([str(split) for split in read_nnunet_splits(folder / "splits_final.json")])]


def _read_segments(read, name: str) -> Callable[[Path, int], Sequence[Array]]:
    def reader(folder: Path, max_bytes: int) -> list[Array]:
        found = read(folder / name, folder / "series", max_bytes=max_bytes)
        return [found.volume.array, found.volume.affine]

    return reader


GZIP, PNG = (".gz",), (".png",)
DOORS = {
    "nifti": Door(_nifti("a.nii", scaled=True), _read_nifti("a.nii")),
    "nifti, compressed": Door(_nifti("a.nii.gz"), _read_nifti("a.nii.gz"), GZIP),
    "nifti, header and image": Door(_nifti("a.img"), _read_nifti("a.hdr")),
    "nifti case": Door(
        _case,
        lambda folder, limit: _arrays(
            [read_nifti_case(folder / "a_image.nii.gz", folder / "a_label.nii.gz", max_bytes=limit)]
        ),
        GZIP,
    ),
    "dicom": Door(_series(ExplicitVRLittleEndian), _read_series),
    "dicom, deflated": Door(_series(DeflatedExplicitVRLittleEndian), _read_series),
    "dicom, run lengths": Door(_series(RLELossless), _read_series),
    "dicom, JPEG-LS": Door(_series(JPEGLSLossless), _read_series),
    "dicom, JPEG lossless": Door(_series(JPEGLosslessSV1), _read_series),
    "dicom, JPEG": Door(_series(JPEGBaseline8Bit), _read_series),
    "dicom, JPEG 2000": Door(_series(JPEG2000Lossless), _read_series),
    "dicom, HTJ2K": Door(_series(HTJ2KLossless), _read_series),
    "dicom, enhanced": Door(_enhanced, _read_series),
    "dicom seg": Door(_seg, _read_segments(read_dicom_seg, "seg.dcm")),
    "rtstruct": Door(_rtstruct, _read_segments(read_rtstruct, "rt.dcm")),
    "png": Door(
        _png,
        lambda folder, limit: _arrays(
            read_png_slices(folder / "train", spacing_mm=(7.0, 11.5, 11.5), max_bytes=limit)
        ),
        PNG,
    ),
    "chaos case": Door(
        _chaos,
        lambda folder, limit: _arrays(
            [read_chaos_case(folder / "chaos/Train_Sets/MR/1", source="t1_dual", max_bytes=limit)]
        ),
        PNG,
    ),
    "cohort of pairs": Door(_pairs, _read_cohort, GZIP),
    "cohort of a task": Door(_task(""), _read_cohort, GZIP),
    "cohort of nnU-Net": Door(_task("_0000"), _read_cohort, GZIP),
    "cohort of png": Door(_png, _read_cohort, PNG),
    "cohort of chaos": Door(_chaos, lambda f, m: _read_cohort(f / "chaos", m), PNG),
    "nrrd": Door(_nrrd("a.nrrd"), _read_volume("a.nrrd")),
    "nrrd, header and voxels": Door(_nrrd("a.nhdr"), _read_volume("a.nhdr")),
    "metaimage": Door(_metaimage, _read_volume("a.mha")),
    "numpy": Door(_numpy, _read_volume("a.npy")),
    "numpy, image and mask": Door(_archive, _read_archive),
    "tiff": Door(_tiff, _read_volume("a.tif")),
    "png in colours": Door(_picture("png"), _read_volume("a.png"), PNG),
    "jpeg": Door(_picture("jpg"), _read_volume("a.jpg")),
    "slicer": Door(
        _slicer, lambda folder, limit: [read_slicer_seg(folder / "a.seg.nrrd", max_bytes=limit).volume.array]
    ),
    "cohort of structures": Door(_structures, _read_cohort, GZIP),
    "splits": Door(_splits, _read_splits),
}


def quiet(read: Callable[[Path, int], Sequence[Array]], folder: Path, max_bytes: int) -> Sequence[Array]:
    """Read without warnings: libraries have many about what they read all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read(folder, max_bytes)


def repacked(content: bytes, change: Callable[[bytearray], bytearray]) -> bytes:
    """Change what a gzip file holds, and give it the checksum of what it holds now."""
    return gzip.compress(bytes(change(bytearray(gzip.decompress(content)))), 1)
