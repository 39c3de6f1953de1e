"""Figures of the house: how long functions and files are, how many parameters, how much of the text is docstrings.

    python -m benchmarks.house [--src src/guided_attention] [--json FILE] [--check]

Sources are read, never imported, so any version of the package can be measured. What is counted:

body
    Lines of a function from its first statement to its last, without its docstring, blank lines and comments. Every
    `def` counts, also methods and nested functions; the lines of a nested function count in both. A function whose body
    is only its docstring has 0 lines. "90 %" is the smallest length that at least 90 % of the functions do not exceed.
file
    All lines of a file.
parameters
    Names between the brackets of a `def`, without `self` and `cls`; `*args` and `**kwargs` count as one each. Two kinds
    are not counted, as they list numbers and nothing else. Records: `__init__` of a class decorated with `dataclass`
    (one that dataclass writes itself is no `def` and is never seen). Builders: functions at the top level of a file
    under `models/` whose return annotation is a class that a file under `models/` defines.
docstrings
    Lines of all strings that are statements, with quotes and the blank lines in them: docstrings, and the strings
    below constants. Code lines are all other lines that are not blank and not only a comment.
public names
    Names in the `__all__` of subpackages (folders of the package whose names have no underscore). Those of public
    modules beside them (`case.py`) are counted separately; names that the package itself re-exports are not counted.
"""

import argparse
import ast
import io
import json
import math
import sys
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

__all__ = ["LIMITS", "File", "Function", "House", "broken", "figures", "offenders", "read_house"]

LIMITS: Mapping[str, float] = {
    "longest_body": 50,
    "longest_file": 400,
    "most_parameters": 8,
    "docstrings_per_code": 0.5,
}
"""The largest value of each figure that is held."""

_TITLES = {
    "functions": "functions",
    "median_body": "body, median",
    "ninetieth_body": "body, 90 %",
    "longest_body": "body, longest",
    "longest_file": "file, longest",
    "most_parameters": "parameters, most (builders and records apart)",
    "docstrings_per_code": "docstring lines per code line",
    "public_names": "public names of subpackages",
    "module_names": "public names of modules beside them",
}
_WORST = 10
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
_Def = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Function:
    """One `def`: where it is, lines of its body, number of parameters, and whether it is a builder or record."""

    where: str
    body: int
    parameters: int
    apart: bool = False


@dataclass(frozen=True)
class File:
    """One file: all its lines, those that hold code, and those of docstrings."""

    where: str
    lines: int
    code: int
    docs: int


@dataclass(frozen=True)
class House:
    """What was counted in all files, and the public names of subpackages and of modules."""

    files: list[File] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)
    public_names: dict[str, list[str]] = field(default_factory=dict)
    module_names: dict[str, list[str]] = field(default_factory=dict)


def read_house(source: Path) -> House:
    """Count in every Python file under the folder of a package.

    Raises:
        ValueError: There is no Python file, one cannot be parsed, or an `__all__` is no plain list of strings.
    """
    paths = sorted(source.rglob("*.py"))
    if not paths:
        raise ValueError(f"`--src` must be the folder of a package, got {source}: it holds no Python file.")
    house, trees = House(), {path: _parsed(path) for path in paths}
    networks = {
        node.name
        for path, tree in trees.items()
        if _is_model(path, source)
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    for path, tree in trees.items():
        where, text = path.relative_to(source).as_posix(), path.read_text(encoding="utf-8")
        docs = _docstring_lines(tree)
        code = _code_lines(text) - docs
        house.files.append(File(where, len(text.splitlines()), len(code), len(docs)))
        apart = set(_records(tree)) | (_builders(tree, networks) if _is_model(path, source) else set())
        house.functions.extend(
            _counted(node, where, code, apart=node in apart)
            for node in ast.walk(tree)
            if isinstance(node, _Def)
        )
        _note_names(house, path.relative_to(source), tree)
    return house


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ValueError(f"{path} must be Python, got {error.msg} in line {error.lineno}.") from error


def _is_model(path: Path, source: Path) -> bool:
    return path.relative_to(source).parts[0] == "models"


def _counted(node: _Def, where: str, code: set[int], *, apart: bool) -> Function:
    lines = set(range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1))
    return Function(f"{where}:{node.lineno} {node.name}", len(code & lines), _parameters(node), apart)


def _parameters(node: _Def) -> int:
    positional = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    bound = positional[:1] in (["self"], ["cls"])
    starred = (node.args.vararg is not None) + (node.args.kwarg is not None)
    return len(positional) - bound + len(node.args.kwonlyargs) + starred


def _records(tree: ast.Module) -> Iterator[_Def]:
    """Return each `__init__` that is written out in a dataclass."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(map(_is_dataclass, node.decorator_list)):
            yield from (item for item in node.body if isinstance(item, _Def) and item.name == "__init__")


def _is_dataclass(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called).rpartition(".")[2] == "dataclass"


def _builders(tree: ast.Module, networks: set[str]) -> set[_Def]:
    return {
        node
        for node in tree.body
        if isinstance(node, _Def) and node.returns and ast.unparse(node.returns).strip("'\"") in networks
    }


def _docstring_lines(tree: ast.Module) -> set[int]:
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def _code_lines(text: str) -> set[int]:
    """Return the lines that any token but a comment touches, docstrings among them."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {
        line
        for token in tokens
        if token.type not in _NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }


def _note_names(house: House, place: Path, tree: ast.Module) -> None:
    """Add the `__all__` of a public subpackage or module to what was counted."""
    parts = place.with_suffix("").parts
    if parts[0].startswith("_"):
        return
    if len(parts) == 1:
        house.module_names[parts[0]] = _all_of(tree, place)
    elif parts[1:] == ("__init__",):
        house.public_names[parts[0]] = _all_of(tree, place)


def _all_of(tree: ast.Module, place: Path) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            try:
                return sorted(ast.literal_eval(node.value))
            except ValueError as error:
                message = (
                    f"`__all__` of {place} must be a plain list of strings, got {ast.unparse(node.value)}."
                )
                raise ValueError(message) from error
    return []


def figures(house: House) -> dict[str, float]:
    """Return the figures by name, those of `LIMITS` among them."""
    bodies = sorted(function.body for function in house.functions) or [0]
    code, docs = sum(file.code for file in house.files), sum(file.docs for file in house.files)
    return {
        "functions": len(house.functions),
        "median_body": median(bodies),
        "ninetieth_body": bodies[math.ceil(0.9 * len(bodies)) - 1],
        "longest_body": bodies[-1],
        "longest_file": max(file.lines for file in house.files),
        "most_parameters": max((one.parameters for one in house.functions if not one.apart), default=0),
        "docstrings_per_code": round(docs / max(code, 1), 4),
        "public_names": sum(map(len, house.public_names.values())),
        "module_names": sum(map(len, house.module_names.values())),
    }


def broken(found: Mapping[str, float]) -> list[str]:
    """Return a sentence for each figure that is above its limit."""
    return [
        f"{_TITLES[name]}: {found[name]:g}, at most {limit:g}"
        for name, limit in LIMITS.items()
        if found[name] > limit
    ]


def offenders(house: House) -> dict[str, list[str]]:
    """Return what is above a limit, and the files with most docstring lines per code line, worst first."""
    bodies, parameters = LIMITS["longest_body"], LIMITS["most_parameters"]
    with_code = [file for file in house.files if file.code]
    return {
        f"functions over {bodies:g} lines": _listed(
            (one.body, f"{one.where} ({one.body})") for one in house.functions if one.body > bodies
        ),
        f"files over {LIMITS['longest_file']:g} lines": _listed(
            (file.lines, f"{file.where} ({file.lines})")
            for file in house.files
            if file.lines > LIMITS["longest_file"]
        ),
        f"functions over {parameters:g} parameters": _listed(
            (one.parameters, f"{one.where} ({one.parameters})")
            for one in house.functions
            if one.parameters > parameters and not one.apart
        ),
        "most docstring lines per code line": _listed(
            (file.docs / file.code, f"{file.where} ({file.docs} / {file.code} = {file.docs / file.code:.2f})")
            for file in with_code
        )[:_WORST],
    }


def _listed(found: Iterable[tuple[float, str]]) -> list[str]:
    return [text for _, text in sorted(found, key=lambda pair: (-pair[0], pair[1]))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print figures and worst offenders; return 1 where `--check` finds a limit broken."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.house", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--src", type=Path, default=Path("src/guided_attention"), help="folder of the package"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures into this file as well")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a limit is broken")
    chosen = parser.parse_args(arguments)
    try:
        house = read_house(chosen.src)
    except ValueError as error:
        parser.error(str(error))
    found, worst = figures(house), offenders(house)
    for name, value in found.items():
        limit = f"   (at most {LIMITS[name]:g})" if name in LIMITS else ""
        shown = f"{value:.2f}" if name == "docstrings_per_code" else f"{value:g}"
        print(f"{_TITLES[name]:<46}{shown:>6}{limit}")
    for title, lines in worst.items():
        print(f"\n{title}:", *(lines or ["none"]), sep="\n  ")
    if chosen.json:
        everything = {"figures": found, "limits": dict(LIMITS), "offenders": worst, **asdict(house)}
        chosen.json.write_text(json.dumps(everything, indent=2) + "\n", encoding="utf-8")
    over = broken(found) if chosen.check else []
    for line in over:
        print(f"Over the limit: {line}", file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
