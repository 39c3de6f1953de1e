"""Pictures as images and masks: modes, bits, palettes, colours, pages, and what is refused."""

import zlib

import numpy as np
import pytest
from PIL import Image

from guided_attention.data import open_cohort, read_png_slices, read_volume, read_volume_case, write_nifti
from guided_attention.errors import DataError, LeftOutWarning
from guided_attention.labels import LabelSpec

SPACING = (9.0, 2.0, 1.5)
GREY = np.arange(35).reshape(5, 7).astype(np.uint8)
COLOUR = np.arange(105).reshape(5, 7, 3).astype(np.uint8)
MASK = GREY % 3


def _read(path):
    return read_volume(path, spacing_mm=SPACING).array


def _labels(path, labels=None):
    Image.fromarray(GREY).save(path.parent / "image.png")
    case = read_volume_case(path.parent / "image.png", path, spacing_mm=SPACING, labels=labels)
    return case.labels[0]


def _fails(path, message, read=_read):
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert caught.value.file == path


@pytest.mark.parametrize(
    ("pixels", "wanted"),
    [
        (GREY, GREY[None]),
        (GREY.astype(np.uint16) * 1000, GREY[None].astype(int) * 1000),
        (GREY > 9, (GREY[None] > 9) * 255),
        (COLOUR, np.moveaxis(COLOUR, -1, 0)[:, None]),
        (np.dstack([GREY, np.full_like(GREY, 99)]), GREY[None]),
        (np.dstack([COLOUR, np.full_like(GREY, 255)]), np.moveaxis(COLOUR, -1, 0)[:, None]),
    ],
)
@pytest.mark.parametrize("ending", ["png", "PNG", "tif", "TIFF"])
def test_grey_levels_and_colours_of_images(tmp_path, pixels, wanted, ending):
    Image.fromarray(pixels).save(tmp_path / f"a.{ending}")
    volume = read_volume(tmp_path / f"a.{ending}", spacing_mm=SPACING)
    np.testing.assert_array_equal(volume.array, wanted)
    np.testing.assert_array_equal(volume.affine, np.diag([-1.5, -2.0, 9.0, 1.0]))


def test_a_palette_is_colours_in_an_image_and_values_in_a_mask(tmp_path):
    picture = Image.fromarray(MASK).convert("P")
    picture.putpalette([0, 0, 0, 250, 10, 10, 10, 250, 10])
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(_read(tmp_path / "a.png")[0, 0], np.array([0, 250, 10])[MASK])
    np.testing.assert_array_equal(_labels(tmp_path / "a.png"), MASK)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_values_in_a_mask(tmp_path, bits):
    values = GREY % 2**bits
    path = tmp_path / "a.png"
    picture = Image.fromarray(values).convert("P")
    picture.putpalette([level for value in range(2**bits) for level in [value * 255 // (2**bits - 1)] * 3])
    picture.save(path, bits=bits)
    np.testing.assert_array_equal(_labels(path), values)


def _png(path, bits, colours, rows, *, interlaced=0):
    """Write a PNG file of 5 rows and 7 columns by hand."""
    header = b"IHDR" + (7).to_bytes(4) + (5).to_bytes(4) + bytes([bits, colours, 0, 0, interlaced])
    content = b"\x89PNG\r\n\x1a\n"
    for chunk in (header, b"IDAT" + zlib.compress(b"".join(b"\0" + row for row in rows)), b"IEND"):
        content += (len(chunk) - 4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)
    path.write_bytes(content)
    return path


def test_interlaced_pictures_are_read(tmp_path):
    passes = "0088 0488 4084 0244 2042 0122 1021"
    steps = [[int(digit) for digit in numbers] for numbers in passes.split()]
    rows = [row.tobytes() for top, left, down, right in steps for row in GREY[top::down, left::right]]
    path = _png(tmp_path / "a.png", 8, 0, [row for row in rows if row], interlaced=1)
    np.testing.assert_array_equal(_read(path)[0], GREY)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_of_grey_are_values_in_a_mask_and_shades_in_an_image(tmp_path, bits):
    values = GREY % 2**bits
    places = [np.unpackbits(row[:, None], axis=1)[:, -bits:].ravel() for row in values]
    path = _png(tmp_path / "a.png", bits, 0, [np.packbits(row).tobytes() for row in places])
    np.testing.assert_array_equal(_labels(path), values)
    np.testing.assert_array_equal(_read(path)[0], values * (255 // (2**bits - 1)))


def test_what_a_picture_must_not_be(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.dstack([COLOUR, GREY])).save(path)
    _fails(path, "must be opaque, or of one transparency, got an alpha channel that varies. Save it without")
    pictures = [Image.fromarray(GREY), Image.fromarray(GREY + 1)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    _fails(path, "must be of one picture, got an animation of 2")
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    _fails(tmp_path / "a.gif", "must be a file that ends in .*got a.gif")
    pictures[0].save(path)
    path.write_bytes(path.read_bytes()[:-20])
    _fails(path, "must be a whole PNG file")
    pictures[0].save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-20])
    _fails(tmp_path / "a.jpg", "must be a whole JPEG file")


def test_jpeg_is_an_image_and_no_mask(tmp_path):
    path = tmp_path / "a.jpeg"
    Image.fromarray(np.full((5, 7), 99, np.uint8)).save(path)
    assert set(_read(path).flat) == {99}
    _fails(path, "must be a mask without loss, got a JPEG file. JPEG stores what is near", _labels)


def test_sixteen_bits_a_colour_are_refused(tmp_path):
    path = _png(tmp_path / "a.png", 16, 2, [bytes(7 * 6)] * 5)
    _fails(path, "must be a PNG of 8 bits a colour, got 16 bits")


def test_pages_of_tiff_are_slices(tmp_path):
    stack = (np.arange(105).reshape(3, 5, 7) * 600).astype(np.uint16)
    first, *others = (Image.fromarray(page) for page in stack)
    path = tmp_path / "a.tif"
    first.save(path, save_all=True, append_images=others)
    np.testing.assert_array_equal(_read(path), stack)
    first.save(path, save_all=True, append_images=[Image.fromarray(stack[0, :4])])
    _fails(path, "size of page 2 of .* must be that of its first page")
    first.save(path, tiffinfo={270: "ImageJ=1.53\nimages=20\nslices=20\n"})
    _fails(path, "must be of 20 pages, as it says itself, got 1. Save it as a plain stack")
    first.save(
        path, save_all=True, append_images=others[:1], tiffinfo={270: "ImageJ=1\nimages=2\nchannels=2\n"}
    )
    _fails(path, "must be of one stack of slices, got .*channels")


def test_colours_of_masks_are_those_of_the_labels(tmp_path):
    path, spec = tmp_path / "a.png", LabelSpec({3: "liver", 7: "spleen"}, {3: "#ff8000", 7: "#0000ff"})
    palette = np.array([(0, 0, 0), (255, 128, 0), (0, 0, 255)], np.uint8)
    Image.fromarray(palette[MASK]).save(path)
    np.testing.assert_array_equal(_labels(path, spec), np.array([0, 3, 7])[MASK])
    _fails(
        path,
        r"colours of .* must be of grey levels, got #0000ff, #ff8000\. .*colours=\{1: \"#0000ff\"\}",
        _labels,
    )
    odd = LabelSpec({3: "liver"}, {3: "#ff8000"})
    _fails(path, "black and the colours of `labels`, got #0000ff", lambda file: _labels(file, odd))
    Image.fromarray(np.dstack([MASK] * 3)).save(path)
    np.testing.assert_array_equal(_labels(path), MASK)


def _slices(folder, kind, *pictures):
    (folder / kind).mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures, start=1):
        picture.save(folder / kind / f"Subj_9slice_{number}.png")
    return folder


def test_slices_of_one_scan_have_one_mode_and_may_be_colours(tmp_path):
    grey, colour = Image.fromarray(GREY), Image.fromarray(COLOUR)
    _slices(tmp_path, "Img", colour, colour)
    (case,) = read_png_slices(tmp_path, spacing_mm=SPACING)
    np.testing.assert_array_equal(case.image, np.moveaxis(np.stack([COLOUR] * 2), -1, 0))
    _slices(tmp_path, "Img", grey, colour)
    message = (
        r"pixels of .*slice_2.png. must be those of Subj_9slice_1.png, 1 channel of uint8, got 3 channels"
    )
    with pytest.raises(DataError, match=message):
        read_png_slices(tmp_path, spacing_mm=SPACING)
    _slices(tmp_path, "Img", grey, Image.fromarray(GREY[:4]))
    with pytest.raises(DataError, match="size of .*slice_2.png"):
        read_png_slices(tmp_path, spacing_mm=SPACING)


def test_grey_levels_are_values_where_labels_name_them(tmp_path):
    _slices(tmp_path, "Img", Image.fromarray(GREY))
    _slices(tmp_path, "GT", Image.fromarray(np.array([0, 128, 255], np.uint8)[MASK]))
    (case,) = open_cohort(tmp_path, labels={128: "liver", 255: "spleen"}, spacing_mm=SPACING)
    np.testing.assert_array_equal(case.labels[0], np.array([0, 128, 255])[MASK])
    (case,) = open_cohort(tmp_path, labels={255: "spleen"}, spacing_mm=SPACING)
    np.testing.assert_array_equal(case.labels[0], np.array([0, 0, 255])[MASK])
    with pytest.raises(
        DataError, match="in the map, got 128, 255. .*`grey_levels`, or dataset.json .*names others"
    ):
        open_cohort(tmp_path, spacing_mm=SPACING)[0]


def test_a_white_mask_whose_value_nobody_named_is_an_error(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    Image.fromarray(np.array([0, 255], np.uint8)[MASK % 2]).save(tmp_path / "a_mask.png")
    (case,) = open_cohort(tmp_path, labels={255: "liver"}, spacing_mm=SPACING)
    assert set(case.labels.flat) == {0, 255}
    with pytest.raises(
        DataError, match=r"labels of case 'a'.*got only 255\. Name the value .*\{255: \"liver\"\}"
    ):
        open_cohort(tmp_path, labels={1: "liver"}, spacing_mm=SPACING)[0]


def test_pictures_make_pairs_unless_volumes_are_there(tmp_path):
    for name in ("images/1.PNG", "labels/1.png", "images/2.tif", "labels/2.npy"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        np.save(path, MASK) if path.suffix == ".npy" else Image.fromarray(MASK).save(path)
    with pytest.warns(UserWarning, match="1 mm is assumed"):
        cohort = open_cohort(tmp_path)
    assert (cohort.layout, cohort.labelled) == ("pairs", ("1", "2"))
    for case in cohort:
        np.testing.assert_array_equal(case.labels[0], MASK)
    write_nifti(tmp_path / "images/3.nii", GREY[None], np.eye(4))
    with pytest.warns(LeftOutWarning, match="Beside volumes, 4 files without geometry are left out: .*1.PNG"):
        assert open_cohort(tmp_path).case_ids == ("3",)


def test_an_npz_of_image_and_mask_is_a_case(tmp_path):
    np.savez(tmp_path / "slice_1.npz", image=GREY, label=MASK)
    cohort = open_cohort(tmp_path, spacing_mm=SPACING)
    assert (cohort.case_ids, cohort.labelled) == (("slice_1",), ("slice_1",))
    np.testing.assert_array_equal(cohort[0].image[0, 0], GREY)
    np.testing.assert_array_equal(cohort[0].labels[0], MASK)


def test_nnunet_data_sets_may_be_pictures(tmp_path):
    for kind, name, pixels in (("imagesTr", "a_0000.png", GREY), ("labelsTr", "a.png", MASK)):
        (tmp_path / kind).mkdir()
        Image.fromarray(pixels).save(tmp_path / kind / name)
    content = (
        '{"file_ending": ".png", "channel_names": {"0": "x"}, "labels": {"background": 0, "a": 1, "b": 2}}'
    )
    (tmp_path / "dataset.json").write_text(content, encoding="utf-8")
    cohort = open_cohort(tmp_path, spacing_mm=SPACING)
    assert (cohort.layout, cohort.case_ids, dict(cohort.labels.names)) == ("nnunet", ("a",), {1: "a", 2: "b"})
    np.testing.assert_array_equal(cohort[0].labels[0], MASK)
