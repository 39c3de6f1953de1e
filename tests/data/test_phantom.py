import numpy as np
import pytest
from pydicom import dcmread

from guided_attention._geometry import reorientation
from guided_attention.data import make_phantom, open_cohort, read_chaos, write_phantom_cohort
from guided_attention.errors import ArgumentError, ArgumentTypeError, ExistingFileError


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_phantom_cohort(tmp_path_factory.mktemp("phantom") / "cohort", subjects=3, seed=5, size=40)


@pytest.mark.parametrize("source", ["t1_in", "t1_out", "t1_dual", "t2"])
def test_what_is_written_reads_as_what_is_made_in_memory(cohort, source):
    cases = read_chaos(cohort, source=source)
    assert [case.case_id for case in cases] == ["1", "2", "3"]
    for number, case in enumerate(cases, start=1):
        made = make_phantom(5, subject=number, size=40, source=source)
        np.testing.assert_array_equal(case.image, made.image)
        np.testing.assert_array_equal(case.labels, made.labels)
        np.testing.assert_allclose(case.spacing_mm, made.spacing_mm, atol=1e-4)
        np.testing.assert_allclose(case.affine, made.affine, atol=1e-3)


def test_the_same_seed_writes_the_same_bytes(cohort, tmp_path):
    again = write_phantom_cohort(tmp_path / "again", subjects=1, seed=5, size=40)
    files = sorted(path.relative_to(again) for path in (again / "Train_Sets").rglob("*") if path.is_file())
    assert len(files) > 100
    for file in files:
        assert (again / file).read_bytes() == (cohort / file).read_bytes(), file


def test_geometry_is_like_that_of_chaos():
    for subject in range(1, 9):
        case = make_phantom(1, subject=subject, size=32)
        z, y, x = case.spacing_mm
        assert 26 <= case.image.shape[1] <= 50
        assert 5.5 <= z <= 9.0
        assert y == x
        assert 1.359 <= x * 32 / 256 <= 1.891


def test_people_differ_and_seeds_differ():
    first = make_phantom(0, subject=1, size=32)
    for other in (make_phantom(0, subject=2, size=32), make_phantom(1, subject=1, size=32)):
        assert first.image.shape != other.image.shape or (first.labels != other.labels).any()


def test_the_anatomy_is_the_same_at_every_size():
    small, large = make_phantom(2, size=48), make_phantom(2, size=96)
    assert small.image.shape[1] == large.image.shape[1]
    # Pixel centres of the small one lie between four of the large one; away from edges all five agree.
    corners = [large.labels[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    alike = np.logical_and.reduce([corner == corners[0] for corner in corners])
    assert (small.labels[alike] == corners[0][alike]).mean() > 0.99


def test_organs_have_human_sizes_and_sides():
    for subject in range(1, 7):
        case = make_phantom(3, subject=subject, size=64)
        voxel_ml = np.prod(case.spacing_mm) / 1000
        volumes = np.bincount(case.labels.ravel(), minlength=5)[1:] * voxel_ml
        assert 600 < volumes[0] < 2600
        assert all(40 < volume < 400 for volume in volumes[1:])
        liver, right, left, spleen = (_centre_mm(case, label) for label in (1, 2, 3, 4))
        assert liver[0] > 0 > spleen[0]  # RAS: x grows to the patient's right
        assert right[0] > 0 > left[0]
        assert liver[1] > right[1]  # the liver lies in front of the kidney
        assert spleen[2] > left[2]  # and the spleen above it
        columns = np.argwhere(case.labels == 1)[:, 2]
        assert columns.mean() < 32  # the patient's right is the image's left


def _centre_mm(case, label):
    z, y, x = np.argwhere(case.labels == label).mean(axis=0)
    return (case.affine @ [x, y, z, 1])[:3]


def test_grey_alone_does_not_tell_organs():
    case = make_phantom(0, size=64)
    image, labels = case.image[0], case.labels
    for label in (1, 2, 3, 4):
        low, high = np.percentile(image[labels == label], (10, 90))
        alike = (image >= low) & (image <= high)
        assert (labels[alike] == label).mean() < 0.6


def test_out_of_phase_is_water_minus_fat_without_sign():
    case = make_phantom(0, size=64, source="t1_dual")
    inward, outward = case.image
    kidney = (case.labels == 2) | (case.labels == 3)
    inside, skin_fat = _eroded(kidney), inward > np.percentile(inward, 97)
    # Water alone keeps its signal, fat loses the water in it twice, and where the two meet they cancel.
    assert 0.9 < np.median(outward[inside] / inward[inside]) < 1.05
    assert 0.7 < np.median(outward[skin_fat] / inward[skin_fat]) < 0.95
    rim = kidney & ~inside
    assert np.median(outward[rim] / inward[rim]) < 0.9


def _eroded(mask):
    inside = mask.copy()
    for axis in (1, 2):
        for step in (-1, 1):
            inside &= np.roll(mask, step, axis)
    return inside


def test_headers_have_the_traps_of_the_real_release(cohort):
    folder = cohort / "Train_Sets/MR/1/T1DUAL/DICOM_anon/InPhase"
    slices = [dcmread(path) for path in sorted(folder.iterdir())]
    step = float(slices[1].ImagePositionPatient[2]) - float(slices[0].ImagePositionPatient[2])
    assert abs(float(slices[0].SliceThickness) - step) > 0.5
    assert len({slice_.SOPInstanceUID for slice_ in slices}) == len(slices)
    assert len({slice_.SeriesInstanceUID for slice_ in slices}) == 1


def test_the_same_cohort_is_not_written_twice_and_another_is_refused(cohort):
    before = (cohort / "phantom.json").stat().st_mtime_ns
    assert write_phantom_cohort(cohort, subjects=3, seed=5, size=40) == cohort
    assert (cohort / "phantom.json").stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match=r"`folder` must be new or empty, got .*cohort"):
        write_phantom_cohort(cohort, subjects=3, seed=6, size=40)


def test_a_cohort_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("guided_attention.data.phantom.release._write_masks", fail)
    with pytest.raises(OSError, match="disk full"):
        write_phantom_cohort(tmp_path / "cohort", subjects=1, size=16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({"seed": -1}, "`seed` must be 0 or above, got -1"),
        ({"subject": 0}, "`subject` must be 1 or above, got 0"),
        ({"size": 8}, "`size` must be at least 16, got 8"),
    ],
)
def test_numbers_out_of_range_are_told(arguments, wanted):
    with pytest.raises(ValueError, match=wanted):
        make_phantom(**arguments)


def test_no_subjects_are_told(tmp_path):
    with pytest.raises(ValueError, match="`subjects` must be 1 or more, got 0"):
        write_phantom_cohort(tmp_path, subjects=0)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("arguments", [{"seed": "1"}, {"subject": 1.0}, {"size": None}])
def test_numbers_of_another_type_are_named(arguments):
    ((name, value),) = arguments.items()
    wanted = f"`{name}` must be a whole number, got a {type(value).__name__}"
    with pytest.raises(ArgumentTypeError, match=wanted):
        make_phantom(**arguments)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({"folder": 3}, "`folder` must be a path, got a int"),
        ({"subjects": 2.0}, "`subjects` must be a whole number, got a float"),
        ({"seed": "0"}, "`seed` must be a whole number, got a str"),
    ],
)
def test_arguments_of_a_cohort_of_another_type_are_named(tmp_path, arguments, wanted):
    with pytest.raises(ArgumentTypeError, match=wanted):
        write_phantom_cohort(**({"folder": tmp_path / "cohort"} | arguments))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_shape_checks")
def test_numbers_of_numpy_count_as_whole_numbers(cohort, tmp_path):
    one, five, size = np.asarray([1, 5, 40])
    again = write_phantom_cohort(tmp_path / "again", subjects=one, seed=five, size=size)
    assert (again / "phantom.json").read_text() == '{"version": 1, "subjects": 1, "seed": 5, "size": 40}'
    for file in sorted((again / "Train_Sets/MR/1/T2SPIR").rglob("*.*")):
        assert file.read_bytes() == (cohort / file.relative_to(again)).read_bytes(), file


def test_a_folder_whose_marker_is_not_text_is_refused(tmp_path):
    (tmp_path / "phantom.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ExistingFileError, match="`folder` must be new or empty"):
        write_phantom_cohort(tmp_path, subjects=1, size=16)


def test_a_tilted_ct_is_read_as_it_is_made(tmp_path):
    folder = write_phantom_cohort(
        tmp_path / "ct", subjects=1, seed=5, size=24, source="ct", tilt_degrees=12.5
    )
    case = open_cohort(folder)[0]
    made = make_phantom(5, size=24, source="ct", tilt_degrees=12.5)
    np.testing.assert_array_equal(case.image, made.image)
    np.testing.assert_array_equal(case.labels, made.labels == 1)
    np.testing.assert_allclose(case.affine, made.affine, atol=1e-3)


def test_under_tilt_organs_stay_where_they_are():
    plain, tilted = (make_phantom(3, size=64, source="ct", tilt_degrees=angle) for angle in (0, 20))
    assert tilted.affine[2, 1] == pytest.approx(np.sin(np.radians(20)) * plain.spacing_mm[1])
    for label in (1, 2, 3, 4):
        np.testing.assert_allclose(_centre_mm(tilted, label), _centre_mm(plain, label), atol=4)


def test_ct_is_in_hounsfield_units():
    case = make_phantom(3, size=64, source="ct")
    image = case.image[0]
    corners = image[:, :3, :3]
    assert (case.channel_names, case.image.dtype) == (("ct",), np.float32)
    assert abs(corners.mean() + 1000) < 8
    for label, low, high in ((1, 90, 130), (2, 130, 200), (3, 130, 200), (4, 100, 150)):
        assert low < np.median(image[case.labels == label]) < high
    right, left = (np.median(image[case.labels == label]) for label in (2, 3))
    assert abs(right - left) < 10


@pytest.mark.parametrize("orientation", ["RAS", "LIA", "PSR"])
def test_another_storage_order_is_the_same_patient(orientation):
    made, plain = make_phantom(5, size=24, orientation=orientation), make_phantom(5, size=24)
    turn = reorientation(made.affine, "LPS")
    assert made.orientation == orientation
    np.testing.assert_array_equal(turn.apply(made.image), plain.image)
    np.testing.assert_array_equal(turn.apply(made.labels), plain.labels)
    np.testing.assert_allclose(turn.affine(made.affine, made.labels.shape), plain.affine, atol=1e-9)


@pytest.mark.parametrize("layout", ["pairs", "nnunet", "png"])
def test_every_layout_is_read_again(tmp_path, layout):
    orientations = ("LPS",) if layout == "png" else ("LPS", "RAS", "LIA")
    options = {"layout": layout, "orientations": orientations, "source": "t2"}
    folder = write_phantom_cohort(tmp_path / "a", subjects=4, seed=5, size=16, **options)
    cohort = open_cohort(folder, spacing_mm=(7.0, 20.0, 20.0) if layout == "png" else None)
    assert (cohort.layout, len(cohort), set(cohort.labels.names.values())) == (
        layout,
        4,
        {"liver", "right kidney", "left kidney", "spleen"},
    )
    for number, case in enumerate(cohort):
        made = make_phantom(
            5, subject=number + 1, size=16, source="t2", orientation=orientations[number % len(orientations)]
        )
        np.testing.assert_array_equal(case.labels, made.labels)
        if layout != "png":
            np.testing.assert_array_equal(case.image, made.image)
            np.testing.assert_allclose(case.affine, made.affine, atol=1e-3)
    assert write_phantom_cohort(tmp_path / "a", subjects=4, seed=5, size=16, **options) == folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"orientations": ("RAS",)}, "Write pairs, or nnunet"),
        ({"orientations": ("LPX",), "layout": "pairs"}, "must be three letters"),
        ({"orientations": (), "layout": "pairs"}, "at least one"),
        ({"tilt_degrees": 5, "layout": "png"}, "Write pairs, or nnunet"),
        ({"tilt_degrees": 31}, "from -30 to 30"),
        ({"source": "t1_dual", "layout": "png"}, "of one channel"),
    ],
)
def test_what_a_layout_cannot_hold_is_refused(tmp_path, options, message):
    with pytest.raises(ArgumentError, match=message):
        write_phantom_cohort(tmp_path / "a", subjects=1, size=16, **options)
    assert not (tmp_path / "a").exists()
