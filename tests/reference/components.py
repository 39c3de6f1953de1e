"""Connected pieces by flood fill, one voxel at a time."""

from itertools import product

import numpy as np


def pieces_of(mask, connectivity):
    """List the pieces of a mask in array order of their first voxels, each as a set of indices."""
    steps = [
        step for step in product((-1, 0, 1), repeat=mask.ndim) if 0 < sum(map(abs, step)) <= connectivity
    ]
    left = {tuple(map(int, index)) for index in np.argwhere(mask)}
    pieces = []
    for seed in sorted(left):
        if seed not in left:
            continue
        left.remove(seed)
        piece, front = {seed}, [seed]
        while front:
            here = front.pop()
            for step in steps:
                there = tuple(a + b for a, b in zip(here, step, strict=True))
                if there in left:
                    left.remove(there)
                    piece.add(there)
                    front.append(there)
        pieces.append(piece)
    return pieces


def largest_pieces(labels, connectivity=1, organs=None):
    """Give the label volume with the first of the largest pieces of each organ left."""
    kept = labels.copy()
    for organ in np.unique(labels) if organs is None else organs:
        pieces = pieces_of(labels == organ, connectivity) if organ > 0 else []
        if pieces:
            size = max(map(len, pieces))
            chosen = next(piece for piece in pieces if len(piece) == size)
            for piece in pieces:
                for index in piece - chosen:
                    kept[index] = 0
    return kept
