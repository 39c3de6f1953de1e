"""The script that type checkers read runs as well."""

from tests.typing.user_script import main


def test_the_script_takes_steps_that_lower_the_loss_and_scores_every_organ():
    losses, scores = main()
    assert losses[1] < losses[0]
    assert set(scores) == {1, 2, 3, 4}
    assert all(0 <= score <= 1 for score in scores.values())
