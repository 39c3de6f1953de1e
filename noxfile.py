"""The project's chores. `nox` runs all that a change must pass; `nox -s NAME` runs one; `nox -l` lists them."""

import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True

_GROUPS = nox.project.load_toml("pyproject.toml")


def _install(session: nox.Session, *groups: str, extras: str = "") -> None:
    """Install the package (with extras, where the session imports it) and groups of pyproject.toml."""
    wanted = nox.project.dependency_groups(_GROUPS, *groups) if groups else ()
    package = ["-e", f".[{extras}]"] if extras else []
    session.install(*wanted, *package)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format with ruff, and the sizes of functions, files and docstrings."""
    _install(session, "lint")
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")
    session.run("python", "-m", "benchmarks.house", "--check")


@nox.session
def layers(session: nox.Session) -> None:
    """Check who imports whom against the picture in docs/architecture.md."""
    _install(session, "layers")
    session.run("lint-imports", *session.posargs, env={"PYTHONPATH": "src"})


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of package and examples with mypy --strict."""
    _install(session, "types", extras="all")
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the unit tests and every code block of docstrings, README and docs."""
    _install(session, "test", extras="all")
    # A code block of a page needs those above it: a file stays on one worker.
    arguments = session.posargs or ["-n", "2", "--dist", "loadfile"]
    session.run(
        "pytest", "-m", "not example and not graph and not peer", *arguments, env={"OMP_NUM_THREADS": "1"}
    )


@nox.session
def peers(session: nox.Session) -> None:
    """Hold surface distances against other libraries on hundreds of masks, and run a benchmark (a minute)."""
    _install(session, "test", extras="all")
    arguments = session.posargs or ["-n", "2"]
    session.run("pytest", "-m", "peer", "tests", *arguments, env={"OMP_NUM_THREADS": "1"})


@nox.session
def export(session: nox.Session) -> None:
    """Compile and export blocks and networks, and run them in ONNX Runtime (torch takes a minute for its graphs)."""
    _install(session, "test", extras="all")
    session.run("pytest", "-m", "graph", "tests/export", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def examples(session: nox.Session) -> None:
    """Run the example scripts and notebooks as users would, and check what they leave (minutes)."""
    _install(session, "test", "notebooks", extras="examples")
    session.run("pytest", "-m", "example", "tests/examples", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    _install(session, "docs", extras="all")
    session.run(
        "sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html", *session.posargs
    )


@nox.session
def build(session: nox.Session) -> None:
    """Build source archive and wheel, import the wheel without any extra, and check the types that users see."""
    session.install("build", "hatchling")
    dist = Path(session.create_tmp()) / "dist"
    session.run("python", "-m", "build", "--no-isolation", "--outdir", str(dist), silent=True)
    session.install("--force-reinstall", "--no-deps", *map(str, dist.glob("*.whl")))
    session.install("torch", "numpy", "pillow", "scipy", "typing-extensions")
    session.install(*nox.project.dependency_groups(_GROUPS, "user-types"))
    # In a folder of its own, so that Python and the checkers find the wheel and not `src`.
    script = shutil.copy("tests/typing/user_script.py", dist)
    with session.chdir(dist):
        session.run(
            "python",
            "-W",
            "error",
            "-c",
            "from guided_attention import *; import guided_attention as g; print(g.__version__)",
        )
        session.run("python", "-W", "error", Path(script).name)
        session.run("mypy", "--strict", Path(script).name)
        session.run("pyright", Path(script).name)


@nox.session(default=False)
def minimums(session: nox.Session) -> None:
    """Run the unit tests with the lowest versions of the core's dependencies that pyproject.toml names."""
    lowest = [requirement.replace(">=", "==") for requirement in _GROUPS["project"]["dependencies"]]
    without_constraint = {**os.environ, "PIP_CONSTRAINT": ""}
    _install(session, "test", extras="all")
    session.install(*lowest, env=without_constraint)
    session.run("pytest", "-m", "not example and not graph and not peer", "tests", *session.posargs)


@nox.session(default=False)
def interop(session: nox.Session) -> None:
    """Hold encoders and baselines against timm, torchvision and smp (downloads gigabytes)."""
    # torchvision's compiled operators fit no torch but its own: a constraint on torch would part the two.
    without_constraint = {**os.environ, "PIP_CONSTRAINT": ""}
    session.install(
        *nox.project.dependency_groups(_GROUPS, "test", "baselines"),
        "torchvision",
        "-e",
        ".[timm]",
        env=without_constraint,
    )
    session.run("pytest", "tests/interop", *session.posargs, env={"OMP_NUM_THREADS": "1"})


if __name__ == "__main__":
    nox.main()
