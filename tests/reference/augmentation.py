"""Slow reference implementations of random changes: one voxel at a time, in NumPy."""

import itertools
import math

import numpy as np
from scipy import ndimage

__all__ = [
    "biased",
    "blanked",
    "blurred",
    "brightened",
    "coarse",
    "contrasted",
    "curved",
    "locally_raised",
    "mirrored",
    "raised",
    "resampled",
    "rotation",
    "sharpened",
    "smooth",
]


def contrasted(channel, factor):
    mean, low, high = channel.mean(), channel.min(), channel.max()
    return np.array([min(max(mean + (v - mean) * factor, low), high) for v in channel.flat]).reshape(
        channel.shape
    )


def raised(channel, exponent, *, inverted):
    sign = -1 if inverted else 1
    turned = sign * channel
    low, extent = turned.min(), turned.max() - turned.min()
    powers = sign * np.array([((v - low) / extent) ** exponent for v in turned.flat]).reshape(channel.shape)
    return (powers - powers.mean()) / powers.std() * channel.std() + channel.mean()


def curved(channel, heights):
    """Go along the straight pieces between the heights, voxel by voxel."""
    low, extent, last = channel.min(), channel.max() - channel.min(), len(heights) - 1
    values = []
    for v in channel.flat:
        place = (v - low) / extent * last
        piece = min(int(place), last - 1)
        values.append(heights[piece] + (place - piece) * (heights[piece + 1] - heights[piece]))
    changed = np.array(values).reshape(channel.shape)
    return (changed - changed.mean()) / changed.std() * channel.std() + channel.mean()


def blurred(channel, sigmas):
    for axis, sigma in enumerate(sigmas):
        channel = ndimage.gaussian_filter1d(channel, sigma, axis, mode="nearest", truncate=4.0)
    return channel


def sharpened(channel, strength):
    result = np.zeros(channel.shape)
    for place in np.ndindex(channel.shape):
        edge = 0.0
        for axis, step in itertools.product(range(channel.ndim), (-1, 1)):
            near = list(place)
            near[axis] = min(max(near[axis] + step, 0), channel.shape[axis] - 1)
            edge += channel[place] - channel[tuple(near)]
        result[place] = channel[place] + strength * edge
    return np.clip(result, channel.min(), channel.max())


def coarse(channel, factor, axes):
    """Keep the nearest voxels along some axes, then interpolate back by cubic convolution."""
    result = channel
    for axis in axes:
        length = channel.shape[axis]
        kept = max(1, round(length * factor))
        result = np.take(result, [int((i + 0.5) * length / kept) for i in range(kept)], axis)
    return smooth(result, channel.shape)


def smooth(values, size):
    """Resize by cubic convolution, axis by axis."""
    for axis, length in enumerate(size):
        if length != values.shape[axis]:
            values = np.apply_along_axis(_cubic_row, axis, values, length)
    return values


def _cubic_row(row, length):
    result = np.zeros(length)
    for i in range(length):
        place = (i + 0.5) * len(row) / length - 0.5
        first = math.floor(place)
        for near in range(first - 1, first + 3):
            result[i] += _cubic(abs(place - near)) * row[min(max(near, 0), len(row) - 1)]
    return result


def _cubic(t, a=-0.75):
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a


def mirrored(image, labels, axes, pairs):
    new_image, new_labels = np.zeros(image.shape), np.zeros(labels.shape, labels.dtype)
    mates = {one: other for pair in pairs for one, other in (pair, pair[::-1])}
    for place in np.ndindex(labels.shape):
        to = tuple(
            n - 1 - i if axis in axes else i
            for axis, (i, n) in enumerate(zip(place, labels.shape, strict=True))
        )
        new_image[:, *to] = image[:, *place]
        organ = int(labels[place])
        new_labels[to] = mates.get(organ, organ) if len(axes) % 2 else organ
    return new_image, new_labels


def rotation(angles):
    """Return the matrix that takes new places ``(z, y, x)`` or ``(y, x)`` to old ones, plane by plane."""
    if len(angles) == 1:
        c, s = math.cos(math.radians(angles[0])), math.sin(math.radians(angles[0]))
        return np.array([[c, s], [-s, c]])
    (cz, sz), (cy, sy), (cx, sx) = ((math.cos(math.radians(a)), math.sin(math.radians(a))) for a in angles)
    about_z = np.array([[1, 0, 0], [0, cz, sz], [0, -sz, cz]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[cx, sx, 0], [-sx, cx, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def resampled(image, labels, matrix, spacing, moved=None):
    """Fetch each voxel from where the matrix takes its place in millimetres about the middle, plus `moved` mm."""
    new_image, new_labels = np.zeros(image.shape), np.zeros(labels.shape, labels.dtype)
    middle, spacing = (np.array(labels.shape) - 1) / 2, np.array(spacing)
    for place in np.ndindex(labels.shape):
        old_mm = matrix @ ((np.array(place) - middle) * spacing)
        if moved is not None:
            old_mm = old_mm + moved[:, *place]
        corners = list(_corners(old_mm / spacing + middle))
        for channel, values in enumerate(image):
            new_image[channel][place] = sum(
                w * (values[at] if _is_inside(at, labels.shape) else values.min()) for at, w in corners
            )
        shares = {}
        for at, weight in corners:
            organ = int(labels[at]) if _is_inside(at, labels.shape) else 0
            shares[organ] = shares.get(organ, 0.0) + weight
        new_labels[place] = max(shares, key=shares.get)
    return new_image, new_labels


def _corners(at):
    below = np.floor(at).astype(int)
    for steps in itertools.product((0, 1), repeat=len(at)):
        corner = below + steps
        yield tuple(int(i) for i in corner), float(np.prod(1 - np.abs(at - corner)))


def _is_inside(at, shape):
    return all(0 <= i < n for i, n in zip(at, shape, strict=True))


def blanked(channel, rectangles):
    """Set the voxels of each rectangle, first and length along each axis, to the channel's mean."""
    result = channel.copy()
    for place in np.ndindex(channel.shape):
        for rectangle in rectangles:
            if all(first <= i < first + side for i, (first, side) in zip(place, rectangle, strict=True)):
                result[place] = channel.mean()
    return result


def _hill(shape, centre, width):
    result = np.zeros(shape)
    for place in np.ndindex(shape):
        parts = [(i + 0.5) / n for i, n in zip(place, shape, strict=True)]
        square = sum(((p - c) / w) ** 2 for p, c, w in zip(parts, centre, width, strict=True))
        result[place] = math.exp(-square / 2)
    return result


def brightened(channel, strength, centre, width):
    return channel + strength * channel.std() * _hill(channel.shape, centre, width)


def locally_raised(channel, exponent, centre, width):
    low, extent = channel.min(), channel.max() - channel.min()
    unit, hill = (channel - low) / extent, _hill(channel.shape, centre, width)
    return (hill * unit**exponent + (1 - hill) * unit) * extent + low


def biased(channel, field):
    return channel.min() + (channel - channel.min()) * np.exp(field)
