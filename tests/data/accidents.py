"""Accidents that happen to data sets, and the page that lists them with what `check` says.

    python -m tests.data.accidents

writes the table of docs/how-to/check.md anew.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.data.accident_files import OF_FILES
from tests.data.accident_maker import CLEAN, Accident, patient_of
from tests.data.accident_second import SECOND
from tests.data.accident_volumes import OF_VOLUMES

from guided_attention.data import Suspicion, check

PAGE = Path(__file__).parents[2] / "docs/how-to/check.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->"
ACCIDENTS = (*OF_FILES, *OF_VOLUMES, *SECOND)


def make_clean(folder: Path) -> Mapping[str, Path]:
    """Write the clean cohort of each layout; return their folders."""
    for layout, write in CLEAN.items():
        (folder / layout).mkdir()
        write(folder / layout)
    return {layout: folder / layout for layout in CLEAN}


def found(accident: Accident, folder: Path) -> Sequence[Suspicion]:
    """Plant an accident in a folder, and return the suspicions that name a file at fault or its case."""
    accident.plant(folder)
    names = set(accident.files) | {repr(case) for case in accident.cases}
    return [
        one
        for one in check(folder, patients=patient_of).suspicions
        if one.case_id in accident.cases or any(name in f"{one.file} {one.message}" for name in names)
    ]


def row(accident: Accident, suspicions: Sequence[Suspicion], folder: Path) -> str:
    """Return a row of the table: what has happened, the first suspicion, and the file that it names."""
    if not suspicions:
        return f"| {accident.sentence} | not found | {accident.blind} |"
    first = suspicions[0]
    is_inside = first.file != folder and first.file.is_relative_to(folder)
    file = f"`{first.file.relative_to(folder)}`" if is_inside else "in the message"
    return f"| {accident.sentence} | {first.severity}: {first.kind} | {file} |"


def rows_of_page() -> list[str]:
    """Return the rows of the table as the page has them."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].splitlines()[2:]


def main() -> None:
    """Write the table anew."""
    lines = ["| what has happened | found as | file named |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as place:
        clean = make_clean(Path(place))
        for accident in ACCIDENTS:
            folder = shutil.copytree(clean[accident.layout], Path(place) / "copy", symlinks=True)
            lines.append(row(accident, found(accident, folder), folder))
            shutil.rmtree(folder)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + "\n".join(lines) + "\n" + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
