"""The mode of networks: evaluation while anybody predicts, and then each module's own."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tests.inference.conftest import AS_IT_IS, LONG_S, ORGANS, SHAPE, network, scan

from guided_attention.inference import Predictor


def _same(got, wanted):
    np.testing.assert_array_equal(got.labels, wanted.labels)
    np.testing.assert_array_equal(got.uncertainty, wanted.uncertainty)


@pytest.mark.parametrize("shared", ["predictor", "network"])
def test_a_thread_that_ends_leaves_the_mode_to_one_that_still_predicts(shared):
    model, case = network().train(), scan()
    model[1].eval()
    wanted = Predictor(network(), AS_IT_IS, ORGANS).predict(case)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))

    def meet(*_):
        if threading.current_thread() is threading.main_thread():
            first_is_in.set()
            assert second_is_in.wait(LONG_S)
        else:
            second_is_in.set()
            assert first_is_out.wait(LONG_S)

    model.register_forward_pre_hook(meet)
    first = Predictor(model, AS_IT_IS, ORGANS)
    second = first if shared == "predictor" else Predictor(model, AS_IT_IS, ORGANS)

    def follow():
        assert first_is_in.wait(LONG_S)
        return second.predict(case)

    with ThreadPoolExecutor(1) as pool:
        later = pool.submit(follow)
        _same(first.predict(case), wanted)
        first_is_out.set()
        _same(later.result(), wanted)
    assert [module.training for module in model] == [True, False, True, True, True]
    torch.testing.assert_close(dict(model.state_dict()), weights, rtol=0, atol=0)


def test_a_program_of_torch_export_keeps_the_mode_it_was_exported_in():
    depth, height, width = SHAPE
    program = torch.export.export(network().eval(), (torch.zeros(depth, 1, height, width),)).module()
    trained, case = network().train(), scan()
    _same(
        Predictor([program, trained], AS_IT_IS, ORGANS).predict(case),
        Predictor([network(), network()], AS_IT_IS, ORGANS).predict(case),
    )
    assert trained.training
