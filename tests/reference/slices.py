"""Slow written-out twins of what is done to slices and volumes: plain loops, one pixel at a time."""

import math

import numpy as np

__all__ = ["mirrored_body", "normalized", "resampled", "rotated"]


def rotated(image, labels, degrees):
    """Turn counterclockwise as displayed: each new pixel looks back along the turn to where it came from.

    Pixels outside the old slice count as the channel's least value, and as background.
    """
    channels, height, width = image.shape
    new_image, new_labels = np.zeros(image.shape), np.zeros(labels.shape, labels.dtype)
    angle = math.radians(degrees)
    for row in range(height):
        for column in range(width):
            right, down = column - (width - 1) / 2, row - (height - 1) / 2
            x = math.cos(angle) * right - math.sin(angle) * down + (width - 1) / 2
            y = math.sin(angle) * right + math.cos(angle) * down + (height - 1) / 2
            for channel in range(channels):
                new_image[channel, row, column] = _linear(image[channel], y, x)
            near_row, near_column = math.floor(y + 0.5), math.floor(x + 0.5)
            if 0 <= near_row < height and 0 <= near_column < width:
                new_labels[row, column] = labels[near_row, near_column]
    return new_image, new_labels


def mirrored_body(image, labels, *, upside_down, left_to_right, pairs):
    """Move each pixel to its mirrored place; a single mirror makes right organs left ones, two together do not."""
    channels, height, width = image.shape
    new_image, new_labels = np.zeros(image.shape), np.zeros(labels.shape, labels.dtype)
    mates = {one: other for pair in pairs for one, other in (pair, pair[::-1])}
    for row in range(height):
        for column in range(width):
            to = height - 1 - row if upside_down else row, width - 1 - column if left_to_right else column
            for channel in range(channels):
                new_image[channel][to] = image[channel, row, column]
            organ = int(labels[row, column])
            new_labels[to] = mates.get(organ, organ) if upside_down + left_to_right == 1 else organ
    return new_image, new_labels


def _linear(pixels, y, x):
    total, lowest = 0.0, float(pixels.min())
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            inside = 0 <= row < pixels.shape[0] and 0 <= column < pixels.shape[1]
            value = float(pixels[row, column]) if inside else lowest
            total += (1 - abs(y - row)) * (1 - abs(x - column)) * value
    return total


def normalized(channel, low, high):
    """Clip to two percentiles found by sorting, then take off the mean and divide by the deviation."""
    ordered = sorted(float(value) for value in channel.ravel())
    least, greatest = _percentile(ordered, low), _percentile(ordered, high)
    clipped = [min(max(float(value), least), greatest) for value in channel.ravel()]
    mean = sum(clipped) / len(clipped)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in clipped) / len(clipped))
    return np.array([(value - mean) / deviation for value in clipped]).reshape(channel.shape)


def _percentile(ordered, percent):
    place = percent / 100 * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def resampled(pixels, rows, columns):
    """Return one slice at fractional rows and columns, linearly; beyond the edge, the edge goes on."""
    result = np.zeros((len(rows), len(columns)))
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            y_in = min(max(y, 0.0), pixels.shape[0] - 1.0)
            x_in = min(max(x, 0.0), pixels.shape[1] - 1.0)
            result[i, j] = _linear(pixels, y_in, x_in)
    return result
