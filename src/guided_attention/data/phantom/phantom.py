"""One phantom in memory."""

from typing import Literal, TypeAlias

import numpy as np

from guided_attention._checks import require_choice
from guided_attention.case import Case
from guided_attention.data.phantom._scanner import scan_subject

__all__ = ["PhantomSource", "make_phantom"]

PhantomSource: TypeAlias = Literal["t1_in", "t1_out", "t1_dual", "t2"]
"""Which scan of a phantom: T1 in phase, T1 out of phase, both as two channels, or fat-suppressed T2."""

_CHANNELS = {"t1_in": ("in",), "t1_out": ("out",), "t1_dual": ("in", "out"), "t2": ("t2",)}


def make_phantom(
    seed: int = 0, *, subject: int = 1, size: int = 256, source: PhantomSource = "t1_in"
) -> Case:
    """Make a synthetic abdominal MR scan in which liver, kidneys and spleen are known.

    Organs are ellipsoids whose place, size, tilt and surface vary between subjects, in a body with fat, wall,
    ribs, spine, vessels, lungs, stomach and bowel. Each voxel has a signal of water ``W`` and of fat ``F``,
    blurred at edges: T1 in phase is ``W + F``, out of phase ``|W - F|``, and T2 is fat-suppressed. A smooth
    coil sensitivity multiplies the signal, and the noise is Rician. Several tissues have the intensity of an
    organ, so intensity does not identify organs.

    As in CHAOS, the field of view is 348 to 484 mm at every size, with 26 to 50 slices 5.5 to 9 mm apart. The
    same seed and subject give the same anatomy at every size.

    Args:
        seed: The cohort, 0 or above.
        subject: Which subject of the cohort, 1 or above.
        size: Height and width in pixels, at least 16.
        source: Which scan, as for `read_chaos`.

    Returns:
        The case, named after the subject; channels "in", "out" or "t2", classes as in `CHAOS_MR_LABELS`.

    Raises:
        ArgumentError: Seed, subject or size is too small, or the source is unknown.
        ArgumentTypeError: Seed, subject or size is not a whole number.

    Example:
        >>> case = make_phantom(0, size=32, source="t1_dual")
        >>> case.image.shape[0], case.image.shape[2:], sorted(set(case.labels.ravel().tolist()))
        (2, (32, 32), [0, 1, 2, 3, 4])
    """
    require_choice("source", source, tuple(_CHANNELS))
    scan = scan_subject(seed, subject, size)
    image = np.stack([scan.channel(name) for name in _CHANNELS[source]]).astype(np.float32)
    return Case(str(subject), image, scan.labels, scan.geometry.affine, channel_names=_CHANNELS[source])
