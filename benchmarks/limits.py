"""The least that a computation costs: sums counted by formula, and the time that they take at the machine's best."""

import math
from collections.abc import Mapping

__all__ = ["HEAD_WIDTH", "attention_counts", "least_seconds"]

HEAD_WIDTH, CHANNELS = 8, 64  # of every attention here: queries and keys have an eighth of the channels
_PASSES = ("forward", "backward")


def attention_counts(
    positions: int, batch: int, part: str = "both", *, item_bytes: int = 4
) -> dict[str, float]:
    """Count what attention between all pairs of positions needs, without its pointwise convolutions (below 1 %).

    Forward: scores and average. Backward, with the scores computed anew, as they are not stored: scores, the gradients
    of values and weights, those of queries and keys. A multiply-add is two operations. Bytes are those of the maps
    alone, each read or written once: the map and the result; in the backward pass the map, the gradient that comes and
    the gradient that goes.
    """
    pairs, map_bytes = batch * positions**2, batch * positions * CHANNELS * item_bytes
    flops = {
        "forward": 2 * pairs * (HEAD_WIDTH + CHANNELS),
        "backward": 2 * pairs * (3 * HEAD_WIDTH + 2 * CHANNELS),
    }
    maps = {"forward": 2, "backward": 3}
    parts = _PASSES if part == "both" else (part,)
    return {
        "flops": sum(flops[name] for name in parts),
        "exponentials": pairs * len(parts),
        "bytes": sum(maps[name] for name in parts) * map_bytes,
    }


def least_seconds(
    counts: Mapping[str, float], ceilings: Mapping[str, float], precision: str
) -> dict[str, float]:
    """Return the time that each kind of work takes at the machine's best, and the least for all of it.

    Products and exponentials use the same units of a core, so their times add up; memory can move meanwhile. Where the
    ceiling of exponentials is not known they count for nothing: the least stays one that nothing can beat.
    """
    seconds = {
        "products": counts["flops"] / ceilings[f"{precision}_flops_a_second"],
        "exponentials": counts["exponentials"] / ceilings.get("exponentials_a_second", math.inf),
        "bytes": counts["bytes"] / ceilings["bytes_a_second"],
    }
    return {**seconds, "all": max(seconds["products"] + seconds["exponentials"], seconds["bytes"])}
