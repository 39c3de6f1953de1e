"""Fixtures for all tests."""

from collections.abc import Iterator

import hypothesis
import jaxtyping
import pytest

# The same examples in every run, and no clock: a busy machine is no failure.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """Switch off the check of annotations, which users do not have: the test sees the error that they would see."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
