"""Fixtures for all tests."""

import signal
from collections.abc import Iterator

import hypothesis
import jaxtyping
import pytest

from guided_attention.encoders import resnet
from tests.modules import narrow_layouts

# The same examples in every run, and no clock: a busy machine is no failure.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")


# nohup, and a shell's background, let a process ignore signals, and what it starts ignores them too.
for _name, _answer in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    _number = getattr(signal, _name, None)
    if _number is not None and signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _answer)


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """Switch off the check of annotations, which users do not have: the test sees the error that they would see."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def narrow_resnets() -> Iterator[None]:
    """Let "resnet18" and "resnet50" be narrow: for tests of what does not depend on the width of an encoder."""
    with pytest.MonkeyPatch.context() as patch:
        for name, layout in narrow_layouts().items():
            patch.setitem(resnet._LAYOUTS, name, layout)
        yield
