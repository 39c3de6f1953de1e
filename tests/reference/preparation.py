"""Slow reference of `Preparation` and of the way back, written from its documentation: plain loops in double precision.

A scan is followed axis by axis. `Line` says where the voxels of one axis of the prepared volume lie in the scan.
"""

import math
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

__all__ = [
    "Line",
    "body_box",
    "canonical",
    "center_box",
    "cohort",
    "interpolated",
    "nearest",
    "neighbours",
    "padded",
    "percentile",
    "placed",
    "resampled",
    "restored",
    "window",
    "zscore",
]

DIRECTIONS = {"L": (0, -1), "R": (0, 1), "P": (1, -1), "A": (1, 1), "I": (2, -1), "S": (2, 1)}
# Rows run down and columns to the right of the picture: depth, height, width.
LOOKED_AT = {"axial": "SPL", "coronal": "PIL", "sagittal": "LIP"}


@dataclass
class Line:
    """Where the voxels of one axis lie in the scan, in voxels, without padding; and what lies around."""

    old: int
    step: float
    places: list[float]
    before: int = 0
    after: int = 0
    cut_low: bool = False
    cut_high: bool = False


def canonical(array, affine, slice_axis):
    """Reorder `(..., z, y, x)`: of all 48 orders and flips, take the one whose axes run most as they should.

    Returns the array, its affine, and the order and flips.
    """
    wanted = [np.zeros(3) for _ in range(3)]
    for vector, letter in zip(wanted, LOOKED_AT[slice_axis], strict=True):
        row, sign = DIRECTIONS[letter]
        vector[row] = sign
    columns = [affine[:3, 2 - axis] / np.linalg.norm(affine[:3, 2 - axis]) for axis in range(3)]
    order, signs = max(
        product(permutations(range(3)), product((1, -1), repeat=3)),
        key=lambda way: sum(way[1][a] * (columns[way[0][a]] @ wanted[a]) for a in range(3)),
    )
    lead = array.ndim - 3
    turned = np.transpose(array, [*range(lead), *(lead + axis for axis in order)])
    for axis, sign in enumerate(signs):
        turned = np.flip(turned, lead + axis) if sign < 0 else turned
    shape = array.shape[lead:]
    new = np.eye(4)
    corner = [shape[order[a]] - 1 if signs[a] < 0 else 0 for a in range(3)]
    for axis in range(3):
        new[:3, 2 - axis] = affine[:3, 2 - order[axis]] * signs[axis]
    new[:3, 3] = affine[:3, 3] + sum(affine[:3, 2 - order[a]] * corner[a] for a in range(3))
    return np.ascontiguousarray(turned), new, (order, signs)


def back_in_storage(array, way):
    """Undo `canonical` voxel by voxel."""
    order, signs = way
    shape = [0, 0, 0]
    for axis in range(3):
        shape[order[axis]] = array.shape[axis]
    stored = np.zeros(shape, array.dtype)
    for place in np.ndindex(array.shape):
        old = [0, 0, 0]
        for axis in range(3):
            old[order[axis]] = place[axis] if signs[axis] > 0 else array.shape[axis] - 1 - place[axis]
        stored[tuple(old)] = array[place]
    return stored


def percentile(values, percent):
    """Sort, then go linearly between the two values around."""
    ordered = sorted(float(value) for value in np.ravel(values))
    place = percent / 100 * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _mean_and_deviation(values):
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def zscore(channel, percents):
    """Clip to the percentiles of the volume, then mean 0 and deviation 1."""
    low, high = (percentile(channel, percent) for percent in percents)
    clipped = [min(max(float(value), low), high) for value in channel.ravel()]
    mean, deviation = _mean_and_deviation(clipped)
    return np.array([(value - mean) / deviation for value in clipped]).reshape(channel.shape)


def window(channel, low, high):
    """`low` becomes 0, `high` 1, and what lies outside goes to the nearest of them."""
    return np.array(
        [(min(max(float(value), low), high) - low) / (high - low) for value in channel.ravel()]
    ).reshape(channel.shape)


def cohort(foregrounds, percents):
    """Return low, high, mean, deviation of the foreground of all cases together."""
    values = [float(value) for foreground in foregrounds for value in foreground]
    low, high = (percentile(values, percent) for percent in percents)
    return low, high, *_mean_and_deviation([min(max(value, low), high) for value in values])


def placed(old, spacing, wanted):
    """Place `max(1, round(voxels * old / new))` voxels exactly `wanted` apart about the same centre."""
    if wanted is None or abs(wanted - spacing) < 1e-4 * spacing:
        return Line(old, 1.0, [float(i) for i in range(old)])
    size = max(1, round(old * spacing / wanted))
    step = wanted / spacing
    return Line(old, step, [(old - 1) / 2 + (i - (size - 1) / 2) * step for i in range(size)])


def interpolated(values, line):
    """Weight all voxels, the repeated ones beyond the edges too, by a triangle about each place."""
    width, last = max(1.0, line.step), len(values) - 1
    result = []
    for place in line.places:
        total = weights = 0.0
        for voxel in range(math.floor(place - width) - 1, math.ceil(place + width) + 2):
            weight = max(0.0, 1 - abs(voxel - place) / width)
            total += weight * float(values[min(max(voxel, 0), last)])
            weights += weight
        result.append(total / weights)
    return result


def resampled(volume, lines):
    """Interpolate one channel along its three axes."""
    for axis, line in enumerate(lines):
        volume = np.apply_along_axis(interpolated, axis, volume, line)
    return volume


def nearest(labels, lines):
    """Take the nearest voxel of the scan; of two as near, the one in front."""
    result = np.zeros([len(line.places) for line in lines], labels.dtype)
    rows = []
    for line in lines:
        candidates = range(line.old)
        rows.append([min(candidates, key=lambda i: (round(abs(i - place), 9), i)) for place in line.places])
    for place in np.ndindex(result.shape):
        result[place] = labels[tuple(rows[axis][place[axis]] for axis in range(3))]
    return result


def center_box(lines, size):
    """Keep a box about the centre."""
    kept = []
    for line, length in zip(lines, size, strict=True):
        count = len(line.places)
        first = 0 if length is None or length >= count else (count - length) // 2
        length = count if length is None else min(length, count)  # noqa: PLW2901
        kept.append(_cut(line, first, first + length))
    return kept


def body_box(lines, channels, threshold, margin_mm, spacing):
    """Keep all voxels that are needed to cover the body and the margin around it."""
    body = np.zeros(channels[0].shape, bool)
    for channel in channels:
        low, high = percentile(channel, 0.5), percentile(channel, 99.5)
        body |= channel > low + threshold * (high - low)
    places = np.argwhere(body)
    if not len(places):
        return lines
    kept = []
    for axis, line in enumerate(lines):
        low = places[:, axis].min() - margin_mm / spacing[axis]
        high = places[:, axis].max() + margin_mm / spacing[axis]
        # The last voxel at or in front of the lower end, the first one at or behind the upper end.
        front = [i for i, place in enumerate(line.places) if place <= low + 1e-6]
        behind = [i for i, place in enumerate(line.places) if place >= high - 1e-6]
        kept.append(
            _cut(line, front[-1] if front else 0, (behind[0] if behind else len(line.places) - 1) + 1)
        )
    return kept


def _cut(line, start, stop):
    return Line(
        line.old,
        line.step,
        line.places[start:stop],
        cut_low=start > 0,
        cut_high=stop < len(line.places),
    )


def padded(lines, least, multiple):
    """Say how many voxels are added in front and behind; the odd one goes behind."""
    for line, low, factor in zip(lines, least, multiple, strict=True):
        size = max(len(line.places), low)
        while size % factor:
            size += 1
        line.before = (size - len(line.places)) // 2
        line.after = size - len(line.places) - line.before
    return lines


def filled(volume, lines, fill):
    """Put a volume into one with padding."""
    around = [(line.before, line.after) for line in lines]
    return np.pad(volume, around, constant_values=fill)


def neighbours(image, z, reach):
    """Return the channels of slice `z` and of those around, which repeat at the edges."""
    depth = image.shape[1]
    return np.stack(
        [
            image[channel, min(max(other, 0), depth - 1)]
            for other in range(z - reach, z + reach + 1)
            for channel in range(image.shape[0])
        ]
    )


def restored(scores, lines):
    """Go from each voxel of the scan to the eight prepared voxels around it; then take the highest score."""
    result = np.zeros([line.old for line in lines], int)
    corners = [_corners(line) for line in lines]
    for place in np.ndindex(result.shape):
        around = [corners[axis][place[axis]] for axis in range(3)]
        if any(pair is None for pair in around):
            continue
        total = np.zeros(len(scores))
        for (i, a), (j, b), (k, c) in product(*around):
            total = total + a * b * c * scores[:, i, j, k]
        result[place] = int(total.argmax())
    return result


def _corners(line):
    """Return for each voxel of the scan two padded voxels with their weights, None where a crop removed it."""
    found = []
    count = len(line.places)
    for voxel in range(line.old):
        place = (voxel - line.places[0]) / line.step
        if (line.cut_low and place < -0.5 - 1e-9) or (line.cut_high and place > count - 0.5 + 1e-9):
            found.append(None)
            continue
        place = min(max(place, 0.0), count - 1.0)
        low = math.floor(place + 1e-9)
        high = min(low + 1, count - 1)
        share = max(0.0, place - low)
        found.append(((line.before + low, 1 - share), (line.before + high, share)))
    return found
