"""Random numbers that repeat: one seed for all generators, and their states as plain values."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from guided_attention._checks import require_seed

__all__ = ["random_state", "restore_random_state", "seed_everything", "seeds_of"]


def seed_everything(seed: int) -> None:
    """Start the random numbers of Python, NumPy and torch (every device) from one seed.

    Call it before the network is built, so that its first weights repeat too; `Trainer.fit` calls it again.

    Args:
        seed: From 0 to 2³² - 1.

    Raises:
        ArgumentError: The seed lies outside that range.
        ArgumentTypeError: The seed is no integer.

    Example:
        >>> import torch
        >>> seed_everything(7)
        >>> first = torch.rand(3)
        >>> seed_everything(7)
        >>> bool((torch.rand(3) == first).all())
        True
    """
    require_seed(seed)
    random.seed(seed)
    # Transforms of other libraries still use NumPy's global generator.
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def seeds_of(seed: int, epoch: int, batch: int, places: range) -> Tensor:
    """Return one seed for each place in a batch, int64: it depends on these four numbers only.

    Example:
        >>> whole = seeds_of(0, 1, 2, range(5))
        >>> bool((seeds_of(0, 1, 2, range(3, 5)) == whole[3:]).all())
        True
    """
    words = np.random.SeedSequence([seed, epoch, batch]).generate_state(places.stop, np.uint64)
    return torch.from_numpy((words[places.start :] >> np.uint64(1)).astype(np.int64))


def random_state() -> dict[str, Any]:
    """Return the states of all generators as tensors, numbers, lists and tuples, fit for a checkpoint."""
    _, key, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": [np.asarray(key).tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Set all generators to what `random_state` returned."""
    random.setstate(state["python"])
    key, *rest = state["numpy"]
    np.random.set_state(("MT19937", np.array(key, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    # A run may be resumed on a machine with fewer devices.
    for device, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(cuda_state, device)
