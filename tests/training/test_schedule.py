import math

import pytest
import torch
from torch.optim.lr_scheduler import PolynomialLR

from guided_attention.training import cosine_decay, polynomial_decay


def test_polynomial_decay_equals_that_of_torch():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = PolynomialLR(optimizer, total_iters=17, power=0.9)
    ours = polynomial_decay()
    for step in range(17):
        assert ours(step / 17) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        theirs.step()


def test_cosine_decay_is_half_a_cosine_from_one_to_zero():
    schedule = cosine_decay()
    assert [schedule(progress) for progress in (0.0, 1 / 3, 0.5, 1.0)] == pytest.approx([1.0, 0.75, 0.5, 0.0])


def test_the_warmup_is_a_straight_line_that_meets_the_cosine():
    schedule = cosine_decay(warmup=0.1)
    assert [schedule(0.1 * part / 7) for part in range(8)] == pytest.approx([part / 7 for part in range(8)])
    assert schedule(math.nextafter(0.1, 1.0)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "schedule", [polynomial_decay(), polynomial_decay(2.0), cosine_decay(), cosine_decay(0.3)]
)
def test_every_schedule_ends_at_zero_and_stays_within_zero_and_one(schedule):
    factors = [schedule(step / 97) for step in range(98)]
    assert factors[-1] == pytest.approx(0.0, abs=1e-12)
    assert all(-1e-12 <= factor <= 1.0 for factor in factors)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"`power` must be above 0, got 0\.0\."):
        polynomial_decay(0.0)
    for warmup in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"`warmup` must be at least 0 and below 1, .*, got {warmup}\."):
            cosine_decay(warmup)
