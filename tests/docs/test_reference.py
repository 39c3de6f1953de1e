"""The pages of docs/: every public name has its place, and every code block runs."""

import importlib
import re
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

import guided_attention

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
ROOMS = sorted(
    path.stem
    for path in (ROOT / "src" / "guided_attention").iterdir()
    if not path.name.startswith("_") and (path.suffix == ".py" or (path / "__init__.py").is_file())
)
_DIRECTIVE = re.compile(r"^\.\. auto(?P<kind>class|function|data):: (?P<target>[\w.]+)$", re.MULTILINE)
_OPENING = re.compile(r"^\s*(?:`{3,}|~{3,}|:{3,})(?P<language>\S.*)$", re.MULTILINE)

_PYTHON = re.compile(r"^```python\n.*?^```$", re.MULTILINE | re.DOTALL)


def documented(room: str) -> list[re.Match[str]]:
    return list(_DIRECTIVE.finditer((DOCS / "reference" / f"{room}.md").read_text(encoding="utf-8")))


def resolve(target: str) -> object:
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_there_are_rooms_and_pages_to_look_at():
    assert {"attention", "data", "outputs"} <= set(ROOMS)
    assert len(PAGES) > len(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_of_a_room_has_one_entry_in_its_reference(room):
    public = importlib.import_module(f"guided_attention.{room}").__all__
    entries = [match["target"].rpartition(".")[2] for match in documented(room)]
    assert sorted(entries) == sorted(public)


@pytest.mark.parametrize("room", ROOMS)
def test_every_entry_of_the_reference_is_the_object_of_the_room(room):
    for match in documented(room):
        module, _, name = match["target"].rpartition(".")
        assert f"{module}.".startswith(f"guided_attention.{room}.")
        assert resolve(match["target"]) is getattr(importlib.import_module(f"guided_attention.{room}"), name)


@pytest.mark.parametrize("room", ROOMS)
def test_every_entry_of_the_reference_is_of_its_kind(room):
    for match in documented(room):
        thing = resolve(match["target"])
        # Aliases of types can be called like functions: only what was defined by `def` is one.
        kind = "class" if isinstance(thing, type) else "function" if hasattr(thing, "__code__") else "data"
        assert match["kind"] == kind, match["target"]


@pytest.mark.parametrize("room", ROOMS)
def test_the_reference_lists_its_pages(room):
    index = (DOCS / "reference" / "index.md").read_text(encoding="utf-8")
    assert f"\n{room}\n" in index
    assert f"({room}.md)" in index


def test_the_everyday_names_are_named_in_the_reference():
    index = (DOCS / "reference" / "index.md").read_text(encoding="utf-8")
    assert [name for name in guided_attention.__all__ if f"`{name}`" not in index] == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda path: path.name)
def test_no_code_block_is_skipped(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(
        r"<!--.*skip|^%\s*skip|doctest:.*SKIP|pytest\.skip|invisible-code", text, re.IGNORECASE | re.MULTILINE
    )


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda path: path.name)
def test_every_python_block_of_a_page_is_collected(page):
    """Python under another name of the language, or in another kind of fence, would run nowhere."""
    languages = [match["language"].strip() for match in _OPENING.finditer(page.read_text(encoding="utf-8"))]
    allowed = {"python", "bash", "{eval-rst}", "{toctree}"}
    assert set(languages) <= allowed
    starts = [example.region.start for example in Sybil([PythonCodeBlockParser()]).parse(page).examples()]
    blocks = [match.span() for match in _PYTHON.finditer(page.read_text(encoding="utf-8"))]
    assert len(blocks) == languages.count("python")
    assert all(any(first <= start < last for start in starts) for first, last in blocks)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"\b(?:examples|tests|docs|benchmarks)/[\w/]+\.\w+", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_message_in_the_table_of_errors_is_one_that_the_code_has():
    table = (DOCS / "how-to" / "own-data.md").read_text(encoding="utf-8").partition("| the message has |")[2]
    quoted = re.findall(r"`([^`]+)`", "\n".join(row.split("|")[1] for row in table.splitlines()[2:]))
    wanted = [
        text.partition("must be ")[2].partition(", got mode")[0] for text in quoted if "must be " in text
    ]
    pieces = [piece for text in wanted for piece in re.split(r"…|, got", text) if piece.strip()]
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    assert len(pieces) > 15
    assert [piece for piece in pieces if piece.strip() not in source] == []


def test_the_picture_of_the_rooms_names_the_files_of_each():
    picture = (DOCS / "architecture.md").read_text(encoding="utf-8")
    for folder in sorted(path for path in (ROOT / "src" / "guided_attention").iterdir() if path.is_dir()):
        block = re.search(
            rf"[├└]── {folder.name}/ (.*?)\n│   [├└]|[├└]── {folder.name}/ (.*?)\n├", picture, re.DOTALL
        )
        public = {path.name for path in folder.rglob("*.py") if not path.name.startswith("_")}
        if public:
            assert block is not None, folder.name
            assert set(re.findall(r"\w+\.py", block[0])) == public
