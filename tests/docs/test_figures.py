"""Tables of scores in the README are those of runs whose scores are kept."""

from pathlib import Path

import pytest

from guided_attention.evaluation import format_table, read_scores, summarize

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["left_atrium", "phantoms"])
def test_a_table_of_the_readme_is_that_of_its_run(name: str) -> None:
    scores = read_scores(ROOT / "benchmarks" / "results" / f"readme_{name}.csv")
    assert format_table(summarize(scores)) in (ROOT / "README.md").read_text(encoding="utf-8")
