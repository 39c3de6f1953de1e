"""The project's chores. `nox` runs all that a change must pass; `nox -s NAME` runs one; `nox -l` lists them."""

import importlib.metadata
import os
import shutil
import sys
from pathlib import Path

import nox
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True

_GROUPS = nox.project.load_toml("pyproject.toml")
_BIN, _SUFFIX = ("Scripts", ".exe") if sys.platform == "win32" else ("bin", "")
_EXTRAS = ("nibabel", "pydicom", "tqdm", "matplotlib", "safetensors")
_UNIT = "not example and not graph and not peer and not crash"
# A code block of a page needs those above it: a file stays on one worker. In the order of pyproject.toml, so that the
# small ones, the docstrings, come last and both workers end together.
_TWO_WORKERS = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
# A newer torch changes nothing in readers, metrics and tables.
_IN_TORCH = tuple(
    f"tests/{name}"
    for name in (
        "attention",
        "contracts",
        "encoders",
        "fusion",
        "inference",
        "interop",
        "losses",
        "models",
        "sampling",
        "training",
    )
)
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
_WITHOUT_CONSTRAINT = {"PIP_CONSTRAINT": ""}


class _Environment:
    """A virtual environment that sessions share: torch is installed twice, and not once a session.

    Args:
        name: Its folder in ``.nox``.
        groups: The groups of pyproject.toml to install.
        wanted: What else to install.
        settings: Variables for pip.
    """

    def __init__(self, name: str, groups: tuple[str, ...], *wanted: str, settings: dict[str, str]) -> None:
        self.folder = Path(".nox", name).absolute()
        self._wanted = (*nox.project.dependency_groups(_GROUPS, *groups), *wanted)
        self._settings = settings
        self._is_made = False

    def run(self, session: nox.Session, *command: str, env: dict[str, str] | None = None) -> None:
        """Run a command of the environment, which is made first: once a run of nox."""
        if not self._is_made:
            self._make(session)
        path = os.pathsep.join([str(self.folder / _BIN), os.environ.get("PATH", "")])
        program = str(self.folder / _BIN / (command[0] + _SUFFIX))
        session.run(program, *command[1:], env={"PATH": path, **(env or {})}, external=True)

    def _make(self, session: nox.Session) -> None:
        python = self.folder / _BIN / ("python" + _SUFFIX)
        if not python.exists():
            session.run(sys.executable, "-m", "venv", "--clear", str(self.folder))
        session.run(str(python), "-m", "pip", "install", "--quiet", *self._wanted, env=self._settings)
        self._is_made = True


_SHARED = _Environment(
    "shared",
    ("lint", "types", "layers", "test", "notebooks", "docs"),
    "-e",
    ".[all]",
    settings={},
)
# torchvision's compiled operators fit no torch but its own: a constraint on torch would part the two.
_NEWEST = _Environment(
    "newest",
    ("test", "baselines"),
    "torchvision",
    "-e",
    ".[all,timm]",
    settings=_WITHOUT_CONSTRAINT,
)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check style and format with ruff, and the sizes of functions, files and docstrings."""
    _SHARED.run(session, "ruff", "check", *session.posargs)
    _SHARED.run(session, "ruff", "format", "--check")
    _SHARED.run(session, "python", "-m", "benchmarks.house", "--check")


@nox.session(venv_backend="none")
def layers(session: nox.Session) -> None:
    """Check who imports whom against the picture in docs/architecture.md."""
    _SHARED.run(session, "lint-imports", *session.posargs, env={"PYTHONPATH": "src"})


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Check the types of package and examples with mypy --strict."""
    _SHARED.run(session, "mypy", *session.posargs)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the unit tests and every code block of docstrings, README and docs."""
    _SHARED.run(session, "pytest", "-m", _UNIT, *(session.posargs or _TWO_WORKERS), env=_ONE_THREAD)


@nox.session(venv_backend="none")
def peers(session: nox.Session) -> None:
    """Hold surface distances against other libraries on hundreds of masks, and run a benchmark (a minute)."""
    arguments = session.posargs or ["-n", "2"]
    _SHARED.run(session, "pytest", "-m", "peer", "tests", *arguments, env=_ONE_THREAD)


@nox.session(venv_backend="none")
def export(session: nox.Session) -> None:
    """Compile and export blocks and networks, and run them in ONNX Runtime (torch takes a minute for its graphs)."""
    arguments = session.posargs or ["-n", "2"]
    _SHARED.run(session, "pytest", "-m", "graph", "tests/export", *arguments, env=_ONE_THREAD)


@nox.session(venv_backend="none")
def crash(session: nox.Session) -> None:
    """Kill, starve and interrupt real processes, and look at what they leave (minutes)."""
    arguments = session.posargs or ["-n", "2"]
    _SHARED.run(session, "pytest", "-m", "crash", "tests", *arguments, env=_ONE_THREAD)


@nox.session(venv_backend="none")
def examples(session: nox.Session) -> None:
    """Run the example scripts and notebooks as users would, and check what they leave (minutes)."""
    arguments = session.posargs or _TWO_WORKERS
    _SHARED.run(session, "pytest", "-m", "example", "tests", *arguments, env=_ONE_THREAD)


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    pages = ["-b", "html", "docs", "docs/_build/html"]
    _SHARED.run(session, "sphinx-build", "-W", "--keep-going", *pages, *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build source archive and wheel, import the wheel without any extra, and check the types that users see."""
    dist = Path(session.create_tmp()) / "dist"
    session.install("build", "hatchling", *nox.project.dependency_groups(_GROUPS, "user-types"))
    session.run("python", "-m", "build", "--no-isolation", "--outdir", str(dist), silent=True)
    session.install("--force-reinstall", "--no-deps", *map(str, dist.glob("*.whl")))
    _borrow_core(session)
    script = shutil.copy("tests/typing/user_script.py", dist)
    # In a folder of its own, so that Python and the checkers find the wheel and not `src`.
    with session.chdir(dist):
        extras = f"not any(importlib.util.find_spec(name) for name in {_EXTRAS})"
        code = "from guided_attention import *; import guided_attention as g; print(g.__version__)"
        session.run("python", "-W", "error", "-c", f"import importlib.util; assert {extras}; {code}")
        session.run("python", "-W", "error", Path(script).name)
        session.run("mypy", "--strict", Path(script).name)
        session.run("pyright", Path(script).name)


def _borrow_core(session: nox.Session) -> None:
    """Let the session's environment import what the core needs from the shared one, and nothing else of it."""
    where = "import sysconfig; print(sysconfig.get_path('purelib'), end='')"
    _SHARED.run(session, "python", "-c", "pass")  # makes it where `build` runs by itself
    shared = Path(
        session.run(str(_SHARED.folder / _BIN / "python"), "-c", where, silent=True, external=True, log=False)
    )
    own = Path(session.run("python", "-c", where, silent=True, log=False))
    links = Path(session.create_tmp()) / "core"
    shutil.rmtree(links, ignore_errors=True)
    links.mkdir()
    for name in _files_of_core(shared):
        (links / name).symlink_to(shared / name)
    (own / "core.pth").write_text(f"{links.absolute()}\n", encoding="utf-8")


def _files_of_core(site: Path) -> set[str]:
    """Return what lies in `site` of the packages that the core needs, with all that they need themselves."""
    found = {
        canonicalize_name(held.name): held for held in importlib.metadata.distributions(path=[str(site)])
    }
    waiting, needed = [Requirement(text) for text in _GROUPS["project"]["dependencies"]], set()
    while waiting:
        name = canonicalize_name(waiting.pop().name)
        if name not in needed:
            needed.add(name)
            more = (Requirement(text) for text in found[name].requires or ())
            waiting += [part for part in more if part.marker is None or part.marker.evaluate({"extra": ""})]
    tops = {file.parts[0] for name in needed for file in found[name].files or ()}
    return tops - {"..", "__pycache__"}


@nox.session(venv_backend="none")
def newest(session: nox.Session) -> None:
    """Run the tests of what computes in torch beside the newest one, with timm, torchvision and smp as judges."""
    arguments = session.posargs or (*_IN_TORCH, *_TWO_WORKERS)
    _NEWEST.run(session, "pytest", "-m", _UNIT, *arguments, env=_ONE_THREAD)


@nox.session(default=False)
def minimums(session: nox.Session) -> None:
    """Run the unit tests with the lowest versions of the core's dependencies that pyproject.toml names."""
    lowest = [requirement.replace(">=", "==") for requirement in _GROUPS["project"]["dependencies"]]
    session.install(*nox.project.dependency_groups(_GROUPS, "test"), "-e", ".[all]")
    session.install(*lowest, env=_WITHOUT_CONSTRAINT)
    session.run("pytest", "-m", _UNIT, "tests", *session.posargs)


if __name__ == "__main__":
    nox.main()
