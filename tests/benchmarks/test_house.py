"""Figures of the house, on small packages whose figures were counted by hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.house import LIMITS, File, Function, House, broken, figures, main, offenders, read_house

ROOT = Path(__file__).parents[2]


@pytest.fixture
def package(tmp_path):
    def write(**files):
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/', 1) if name[0] != '_' else name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return write


def functions_of(package, text):
    return [(one.where, one.body, one.parameters) for one in read_house(package(file=text)).functions]


def test_a_body_has_neither_docstring_nor_blank_lines_nor_comments(package):
    text = '''def f(a):
    """One line.

    More.
    """
    # why

    b = a  # still code
    text = """first

    last"""
    return (
        b,
        text,
    )
    # the end
'''
    # b, three lines of the string, four of the return
    assert functions_of(package, text) == [("file.py:1 f", 8, 1)]


def test_a_function_of_a_docstring_only_has_no_body(package):
    assert functions_of(package, 'def f():\n    """Do nothing."""\n') == [("file.py:1 f", 0, 0)]


def test_an_ellipsis_is_a_body_of_one_line(package):
    assert functions_of(package, "class A(Protocol):\n    def f(self, a):\n        ...\n") == [
        ("file.py:2 f", 1, 1)
    ]


def test_a_nested_function_counts_in_both_and_its_docstring_in_none(package):
    text = 'def f():\n    def g():\n        """Say."""\n        return 1\n\n    return g\n'
    assert sorted(functions_of(package, text)) == [("file.py:1 f", 3, 0), ("file.py:2 g", 1, 0)]


def test_a_body_on_the_line_of_its_def_is_one_line(package):
    assert functions_of(package, "async def f(): return 1\n") == [("file.py:1 f", 1, 0)]


@pytest.mark.parametrize(
    ("brackets", "count"),
    [
        ("", 0),
        ("a, b=1", 2),
        ("a, /, b, *, c", 3),
        ("*args, **kwargs", 2),
        ("self, a", 1),
        ("cls", 0),
        ("a, self", 2),
    ],
)
def test_parameters_are_counted_without_self(package, brackets, count):
    assert functions_of(package, f"def f({brackets}): pass\n") == [("file.py:1 f", 1, count)]


def test_an_init_written_in_a_record_is_apart_and_other_methods_are_not(package):
    body = "class A:\n    def __init__(self, a, b, c): pass\n    def g(self, a): pass\n"
    for decorator in ("@dataclass", "@dataclass(frozen=True)", "@dataclasses.dataclass(init=False)"):
        house = read_house(package(file=f"{decorator}\n{body}"))
        assert [(one.parameters, one.apart) for one in house.functions] == [(3, True), (1, False)]
        assert figures(house)["most_parameters"] == 1
    assert figures(read_house(package(file=body)))["most_parameters"] == 3
    assert figures(read_house(package(file=f"@final\n{body}")))["most_parameters"] == 3


def test_builders_are_functions_of_models_that_return_a_network(package):
    network = "class Net:\n    def g(self, a, b) -> 'Net': pass\n"
    build = "def build(a, b, c, d) -> Net: pass\ndef quoted(a, b, c, d) -> 'Net': pass\n"
    other = "def other(a, b, c) -> Tensor: pass\n"
    house = read_house(package(models__net=network, models__make=build + other, models____init__=""))
    apart = {one.where.split()[1]: one.apart for one in house.functions}
    assert apart == {"build": True, "quoted": True, "other": False, "g": False}
    assert figures(house)["most_parameters"] == 3


def test_functions_of_other_subpackages_that_return_a_network_are_no_builders(package):
    house = read_house(package(models__net="class Net: pass\n", data__make="def f(a, b) -> Net: pass\n"))
    assert figures(house)["most_parameters"] == 2


def test_lines_of_docstrings_are_all_strings_that_are_statements(package):
    text = '''"""Module.

Text.
"""

import os  # comment

# comment
A = "no docstring"
"""What A is."""


class B:
    """Class."""

    a = 1
'''
    (file,) = read_house(package(file=text)).files
    # docstrings: 4 lines, 1 and 1; code: import, A, class, a
    assert file == File("file.py", lines=16, code=4, docs=6)
    assert figures(read_house(package(file=text)))["docstrings_per_code"] == 1.5


def test_median_and_ninety_percent_are_counted_lengths(package):
    bodies = [1, 2, 3, 4, 5, 6, 7, 8, 9, 30]
    text = "".join(f"def f{n}():\n" + "    a = 1\n" * n for n in bodies)
    found = figures(read_house(package(file=text)))
    assert (found["functions"], found["median_body"]) == (10, 5.5)
    assert (found["ninetieth_body"], found["longest_body"], found["longest_file"]) == (9, 30, 85)


def test_public_names_are_those_of_subpackages_and_apart_those_of_modules(package):
    house = read_house(
        package(
            __init__='__all__ = ["everyday"]\n',
            case='__all__ = ["Case"]\n',
            _hidden='__all__ = ["x"]\n',
            data____init__='"""Data."""\n\n__all__ = ["b", "a"]\n',
            data__inner='__all__ = ["of the file"]\n',
        )
    )
    assert (house.public_names, house.module_names) == ({"data": ["a", "b"]}, {"case": ["Case"]})
    assert (figures(house)["public_names"], figures(house)["module_names"]) == (2, 1)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("def f(:\n", r"broken.py must be Python, got .* in line 1\."),
        (
            "__all__ = [*names]\n",
            r"`__all__` of broken.py must be a plain list of strings, got \[\*names\]\.",
        ),
    ],
)
def test_what_cannot_be_read_is_named(package, text, wanted):
    with pytest.raises(ValueError, match=wanted):
        read_house(package(broken=text))


def test_a_folder_without_python_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--src", str(tmp_path / "absent")])
    assert "must be the folder of a package, got" in capsys.readouterr().err


WITHIN = {"longest_body": 50, "longest_file": 400, "most_parameters": 8, "docstrings_per_code": 0.5}


def test_the_limits_themselves_are_allowed():
    assert WITHIN == LIMITS
    assert broken(WITHIN) == []


@pytest.mark.parametrize("name", WITHIN)
def test_each_limit_is_held(name):
    over = WITHIN | {name: WITHIN[name] + 0.01}
    (line,) = broken(over)
    assert f"{over[name]:g}, at most {WITHIN[name]:g}" in line


def test_the_worst_come_first_and_builders_do_not_come_at_all():
    house = House(
        files=[File("a", 401, 10, 20), File("b", 500, 10, 30), File("c", 400, 10, 1), File("d", 1, 0, 1)],
        functions=[
            Function("a:1 f", 51, 9),
            Function("a:2 g", 60, 12),
            Function("a:3 h", 50, 8),
            Function("a:4 build", 1, 99, apart=True),
        ],
    )
    assert offenders(house) == {
        "functions over 50 lines": ["a:2 g (60)", "a:1 f (51)"],
        "files over 400 lines": ["b (500)", "a (401)"],
        "functions over 8 parameters": ["a:2 g (12)", "a:1 f (9)"],
        "most docstring lines per code line": [
            "b (30 / 10 = 3.00)",
            "a (20 / 10 = 2.00)",
            "c (1 / 10 = 0.10)",
        ],
    }


def test_ten_files_with_most_docstrings_are_listed():
    house = House(files=[File(f"{n:02d}", 1, 10, n) for n in range(13)])
    assert [line.split()[0] for line in offenders(house)["most docstring lines per code line"]] == [
        f"{n:02d}" for n in range(12, 2, -1)
    ]


def test_the_check_fails_where_a_limit_is_broken_and_only_then(package, tmp_path, capsys):
    source = str(package(file="def f(a, b, c, d, e, g, h, i, j): pass\n"))
    assert main(["--src", source, "--json", str(tmp_path / "house.json")]) == 0
    assert main(["--src", source, "--check"]) == 1
    out, err = capsys.readouterr()
    assert "  file.py:1 f (9)" in out
    assert err == "Over the limit: parameters, most (builders and records apart): 9, at most 8\n"
    found = json.loads((tmp_path / "house.json").read_text(encoding="utf-8"))
    assert found["figures"]["most_parameters"] == 9
    assert found["functions"] == [{"where": "file.py:1 f", "body": 1, "parameters": 9, "apart": False}]
    assert found["limits"] == WITHIN
    assert main(["--src", str(package(file="a = 1\n")), "--check"]) == 0


def test_the_command_reads_the_package_itself_without_importing_it():
    code = "import sys; from benchmarks.house import main; main([]); sys.exit('torch' in sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "docstring lines per code line" in finished.stdout
