import math

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import PolynomialLR, ReduceLROnPlateau

from guided_attention.training import TrainingProgress, cosine_decay, polynomial_decay, reduce_on_plateau


def at(share):
    return TrainingProgress(share=share)


def after(*scores):
    """Give the progress after these scores, one an epoch."""
    return TrainingProgress(epoch=len(scores) + 1, scores=tuple(enumerate(scores, start=1)))


def test_polynomial_decay_equals_that_of_torch():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = PolynomialLR(optimizer, total_iters=17, power=0.9)
    ours = polynomial_decay()
    for step in range(17):
        assert ours(at(step / 17)) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        theirs.step()


def test_cosine_decay_is_half_a_cosine_from_one_to_zero():
    schedule = cosine_decay()
    assert [schedule(at(share)) for share in (0.0, 1 / 3, 0.5, 1.0)] == pytest.approx([1.0, 0.75, 0.5, 0.0])


def test_the_warmup_is_a_straight_line_that_meets_the_cosine():
    schedule = cosine_decay(warmup=0.1)
    assert [schedule(at(0.1 * part / 7)) for part in range(8)] == pytest.approx(
        [part / 7 for part in range(8)]
    )
    assert schedule(at(math.nextafter(0.1, 1.0))) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "schedule", [polynomial_decay(), polynomial_decay(2.0), cosine_decay(), cosine_decay(0.3)]
)
def test_every_decay_ends_at_zero_and_stays_within_zero_and_one(schedule):
    factors = [schedule(at(step / 97)) for step in range(98)]
    assert factors[-1] == pytest.approx(0.0, abs=1e-12)
    assert all(-1e-12 <= factor <= 1.0 for factor in factors)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"`power` must be above 0, got 0\.0\."):
        polynomial_decay(0.0)
    for warmup in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"`warmup` must be at least 0 and below 1, .*, got {warmup}\."):
            cosine_decay(warmup)
    with pytest.raises(ValueError, match=r"`epochs` must be at least 1, got 0\."):
        reduce_on_plateau(epochs=0)
    for factor in (0.0, 1.0):
        with pytest.raises(ValueError, match=rf"`factor` must be between 0 and 1, got {factor}\."):
            reduce_on_plateau(factor=factor)


# Reduced on a plateau


def test_the_rate_is_cut_after_three_epochs_without_improvement_worked_by_hand():
    schedule = reduce_on_plateau(epochs=3, factor=0.1)
    # best at 2; 3, 4 and 5 without improvement: cut; 6, 7, 8: cut again; best at 9; 10, 11, 12: a third cut.
    scores = (0.5, 0.6, 0.6, 0.2, 0.55, 0.59, 0.6, 0.0, 0.61, 0.61, 0.6, 0.6)
    cuts = (0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3)
    factors = [schedule(after(*scores[:done])) for done in range(len(scores) + 1)]
    assert factors == pytest.approx([0.1**cut for cut in cuts], rel=1e-12)


def test_the_paper_halves_after_fifty():
    rising_then_flat = [0.1, 0.2, *[0.2] * 50]
    assert reduce_on_plateau()(after(*rising_then_flat[:-1])) == 1.0
    assert reduce_on_plateau()(after(*rising_then_flat)) == 0.5


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_cuts_come_at_the_epochs_where_torch_has_them(epochs):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=epochs - 1, threshold=0.0, eps=0.0)
    ours = reduce_on_plateau(epochs=epochs, factor=0.5)
    draw = np.random.default_rng(epochs)
    # The range rises slowly, so that bests come at every time of the run; every seventh score is no number.
    scores = [math.nan if n % 7 == 0 else draw.uniform(n, n + 20) for n in range(59)]
    for done in range(1, len(scores) + 1):
        theirs.step(scores[done - 1])
        assert ours(after(*scores[:done])) == optimizer.param_groups[0]["lr"]
    assert 0.0 < optimizer.param_groups[0]["lr"] < 1.0


def test_epochs_are_counted_and_not_validations():
    schedule = reduce_on_plateau(epochs=5)
    # Every third epoch: 3 is the best, 6 is 3 epochs later, 9 is 6 later. 12 is 3 after the cut, 15 is 6.
    scores = tuple((epoch, 0.9 if epoch == 3 else 0.1) for epoch in (3, 6, 9, 12, 15))
    factors = [schedule(TrainingProgress(scores=scores[:done])) for done in range(6)]
    assert factors == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]


def test_scores_that_are_no_number_are_no_improvement_and_no_best():
    schedule = reduce_on_plateau(epochs=2)
    assert [schedule(after(*[math.nan] * done)) for done in range(5)] == [1.0, 1.0, 0.5, 0.5, 0.25]
    # The first number after them is the best so far, and later ones are held against it, not against NaN.
    assert schedule(after(math.nan, 0.1, math.nan)) == 1.0
    assert schedule(after(math.nan, 0.1, math.nan, 0.05)) == 0.5
    assert schedule(after(0.3, math.nan, 0.4, 0.2)) == 1.0


def test_a_run_without_validations_keeps_its_rate():
    assert reduce_on_plateau(epochs=1)(TrainingProgress(share=0.9, epoch=99)) == 1.0
