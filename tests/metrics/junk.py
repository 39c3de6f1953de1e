"""Values that no argument wants, and the check that only errors of the library come of them."""

from pathlib import Path

import numpy as np
import torch

from guided_attention.errors import GuidedAttentionError


def callables():
    return {"class": int, "function": lambda: None}


def values():
    """Wrong types, shapes, dtypes, devices and containers, by a name for the test's id."""
    shapes = [(), (0,), (5,), (0, 5, 7), (3, 5), (3, 5, 7), (2, 3, 5, 7), (1, 2, 3, 5, 7)]
    arrays = {
        f"{kind} array {shape}": np.zeros(shape, kind)
        for kind in ("bool", "int64", "float64")
        for shape in shapes
    }
    kinds = ("complex128", "object", "U3", "datetime64[s]", "i2,f4", ">i4", "S2")
    arrays |= {f"{kind} array": np.zeros((3, 5, 7), kind) for kind in kinds}
    arrays |= {f"{kind} row": np.zeros(3, kind) for kind in kinds}
    dtypes = (torch.bool, torch.uint8, torch.float32, torch.bfloat16, torch.complex64)
    tensors = {f"{dtype} tensor": torch.zeros(3, 5, 7, dtype=dtype) for dtype in dtypes}
    return {
        **{repr(value): value for value in (None, True, -1, 0, 3, 2.5, float("nan"), float("inf"), 1 + 2j)},
        **{repr(value): value for value in ("cuda:7", "", b"x", [], [1.0], ["a"], [None], (), {}, set())},
        "huge": 10**400,
        "ragged": [[1], [2, 3]],
        "nested": [[1.0, 1.0, 1.0]],
        "dict": {1: "liver"},
        "object": object(),
        "iterator": iter([1]),
        "path": Path("x"),
        "scalar": np.float32(2),
        "masked": np.ma.masked_array(np.zeros((3, 5, 7), bool), mask=True),
        **arrays,
        **tensors,
        "meta tensor": torch.zeros(3, 5, 7, dtype=torch.bool, device="meta"),
        "sparse tensor": torch.zeros(3, 5, 7).to_sparse(),
        "tensor with gradient": torch.zeros(3, requires_grad=True),
        "scalar tensor": torch.tensor(1.0),
    }


def try_all(function, valid, argument, *, more=()):
    """Call with every value in place of one argument; return which were refused, all by errors of the library."""
    refused = set()
    for name, value in {**values(), **dict(more)}.items():
        try:
            function(**{**valid, argument: value})
        except GuidedAttentionError:
            refused.add(name)
        except Exception as error:
            message = f"{argument} = {name}: {type(error).__name__}: {error}"
            raise AssertionError(message) from error
    return refused
