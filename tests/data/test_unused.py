"""Arguments of `open_cohort` that change nothing for a folder are told."""

import warnings

import numpy as np
import pytest

from guided_attention import cli
from guided_attention.data import Opening, check, open_cohort, write_nifti, write_phantom_cohort

GIVEN = {"spacing_mm": (1.0, 2.0, 3.0), "resample_channels": True, "series": "7"}


@pytest.fixture
def pairs(tmp_path):
    """Return a folder of NIfTI pairs with one channel, and what is to be said of `GIVEN` and of the options."""
    for name in ("a", "b"):
        volume = np.random.default_rng(3).integers(0, 2, (5, 7, 11)).astype(np.uint8)
        write_nifti(tmp_path / f"{name}_image.nii.gz", volume, np.eye(4))
        write_nifti(tmp_path / f"{name}_label.nii.gz", volume, np.eye(4))
    why = ["its files hold their spacing", "no scan has a file for each channel"]
    why += ["it has no folders of DICOM series to choose from"]
    told = [f" changes nothing for {tmp_path}: {one}. Leave it out, or check the folder." for one in why]
    names, options = list(GIVEN), ["--spacing", "--resample-channels", "--series"]
    return (
        tmp_path,
        [f"`{name}`{one}" for name, one in zip(names, told, strict=True)],
        [f"{option}{one}" for option, one in zip(options, told, strict=True)],
    )


def test_each_is_a_warning(pairs):
    folder, told, _ = pairs
    with pytest.warns(UserWarning, match="changes nothing") as caught:
        cohort = open_cohort(folder, **GIVEN)
    assert [str(one.message) for one in caught] == told
    assert cohort.opening == Opening("pairs", **GIVEN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cohort.opening.open(folder).case_ids == ("a", "b")  # a plan that is carried out says nothing
        open_cohort(folder)


def test_the_check_lists_them(pairs):
    folder, told, _ = pairs
    report = check(folder, opening=Opening(**GIVEN))
    assert [one.message for one in report.warnings if one.kind == "layout"] == told


def test_verbs_tell_their_options(pairs, capsys):
    folder, _, told = pairs
    given = ["--spacing", "1", "2", "3", "--resample-channels", "--series", "7"]
    assert cli.main(["check", str(folder), *given, "--strict"]) == 1
    lines = capsys.readouterr().out.splitlines()
    said = [line.partition(": cohort: layout: ")[2].partition(" [")[0] for line in lines]
    assert [line for line in said if line] == told
    raw = ["--out", str(folder / "raw"), "--to", "nnunet", "--organ", "1=liver"]
    assert cli.main(["convert", str(folder), *given, *raw]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("warning: ")[2] for line in lines if "changes nothing" in line] == told


@pytest.mark.parametrize("layout", ["chaos", "png"])
def test_layouts_that_have_channels_of_their_own(tmp_path, layout):
    folder = write_phantom_cohort(tmp_path / "cohort", subjects=2, size=16, layout=layout)
    given = GIVEN | {"channels": ("t1",)}
    named = {"channels", "resample_channels", "series"} | ({"spacing_mm"} if layout == "chaos" else set())
    with pytest.warns(UserWarning, match="changes nothing") as caught:
        open_cohort(folder, **given)
    assert {str(one.message).split("`")[1] for one in caught} == named
