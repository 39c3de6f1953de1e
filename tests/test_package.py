"""The package as it is imported: everyday names, no optional package, no warning, shapes without jaxtyping."""

import importlib
import inspect
import subprocess
import sys

import pytest

from guided_attention.errors import MissingPackageError

ROOMS = (
    "attention",
    "case",
    "data",
    "encoders",
    "errors",
    "evaluation",
    "figures",
    "fusion",
    "inference",
    "labels",
    "losses",
    "metrics",
    "models",
    "outputs",
    "preparation",
    "sampling",
    "training",
)
EVERYDAY = "MSGA, SegmentationModel, PAM, CAM, GuidedAttention, MultiScaleFusion, Trainer"


def fresh(code):
    """Run code in an interpreter of its own, warnings as errors, and return what it printed."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_everyday_names_import_no_optional_package():
    optional = {"pydicom", "nibabel", "matplotlib", "tqdm"}
    # torch takes tqdm along where it is installed: what counts is what comes on top of torch.
    code = f"import sys, torch; before = set(sys.modules)\nfrom guided_attention import {EVERYDAY}\n"
    code += "".join(f"import guided_attention.{room}\n" for room in ROOMS)
    assert fresh(code + f"print({optional} & (set(sys.modules) - before))") == "set()"


def test_the_library_does_not_import_the_compiler():
    # `torch.compiler.disable` as a decorator did: 2.5 seconds of every process.
    code = "".join(f"import guided_attention.{room}\n" for room in ROOMS)
    assert fresh(f"import sys\n{code}print('torch._dynamo' in sys.modules)") == "False"


def test_a_network_without_memory_is_built_without_the_compiler():
    # `plan`, `predict` and `evaluate` build one; its random numbers took one to two seconds.
    code = "import sys, torch\nfrom guided_attention import MSGA\n"
    code += "with torch.device('meta'): MSGA(encoder='resnet18', channels=4)\n"
    assert fresh(f"{code}print('torch._dynamo' in sys.modules)") == "False"


def test_the_library_imports_where_no_optional_package_is_installed():
    code = "import sys; sys.modules |= dict.fromkeys(['pydicom', 'nibabel', 'matplotlib', 'tqdm'])\n"
    assert fresh(code + "".join(f"import guided_attention.{room}\n" for room in ROOMS)) == ""


def test_shapes_are_plain_tensors_where_jaxtyping_is_absent():
    code = "import sys; sys.modules['jaxtyping'] = None\nimport guided_attention._typing as t, torch, numpy\n"
    code += "print(t.FeatureMap is torch.Tensor, t.LabelVolume is numpy.ndarray)\n"
    code += "from guided_attention import PAM; print(PAM(4)(torch.ones(1, 4, 2, 3)).shape)"
    assert fresh(code) == "True True\ntorch.Size([1, 4, 2, 3])"


def test_the_shapes_of_both_kinds_have_the_same_names():
    from guided_attention import _typing

    assert all(hasattr(_typing, name) for name in _typing.__all__)


@pytest.mark.parametrize("room", ["", *(f".{room}" for room in ROOMS)])
def test_every_public_name_is_there_and_documented(room):
    module = importlib.import_module(f"guided_attention{room}")
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
        if inspect.isclass(getattr(module, name)) or inspect.isfunction(getattr(module, name)):
            assert getattr(module, name).__doc__, name


def test_a_missing_extra_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    from guided_attention.data import read_dicom_series, read_nifti

    (tmp_path / "x.nii").write_bytes(b"0")
    for package in ("nibabel", "pydicom"):
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=r"pip install 'guided-attention\[nifti\]'"):
        read_nifti(tmp_path / "x.nii")
    with pytest.raises(MissingPackageError, match=r"pip install 'guided-attention\[dicom\]'"):
        read_dicom_series(tmp_path)
