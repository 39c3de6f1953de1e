"""Collects the Python code blocks of README.md and docs/ as tests: each document is one namespace and one folder."""

import os
import tempfile
from collections.abc import Iterator
from doctest import ELLIPSIS
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

# Sphinx's settings are no module of the library, and what Sphinx built is no source.
collect_ignore = ["docs/conf.py", "docs/_build"]


def _enter_empty_folder(namespace: dict[str, Any]) -> None:
    """Let a document write its files where nothing of the repository lies."""
    folder = TemporaryDirectory(prefix="docs-")
    namespace["_leave"] = (folder, Path.cwd())
    os.chdir(folder.name)


def _leave_folder(namespace: dict[str, Any]) -> None:
    folder, before = namespace["_leave"]
    os.chdir(before)
    folder.cleanup()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS)],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    setup=_enter_empty_folder,
    teardown=_leave_folder,
).pytest()


@pytest.fixture(scope="session", autouse=True)
def _temporary_files_in_one_folder() -> Iterator[None]:
    """Remove what examples and docstrings leave behind, in processes of their own too."""
    with TemporaryDirectory(prefix="left-") as folder, pytest.MonkeyPatch.context() as patch:
        Path(folder).chmod(0o711)  # some tests run as another user
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", None)  # chosen anew, from the variable
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let torch 2.13 copy an exported program by way of a class that it deprecates itself, on the page about it."""
    filter_ = "ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"
    for item in items:
        if item.path.name == "export.md":
            item.add_marker(pytest.mark.filterwarnings(filter_))
