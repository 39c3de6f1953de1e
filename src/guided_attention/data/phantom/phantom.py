"""One phantom in memory."""

from typing import Literal, TypeAlias

import numpy as np

from guided_attention._checks import require_choice
from guided_attention._geometry import check_orientation, reorientation
from guided_attention.case import Case
from guided_attention.data.phantom._scanner import scan_subject

__all__ = ["CHANNELS", "PhantomSource", "make_phantom"]

PhantomSource: TypeAlias = Literal["t1_in", "t1_out", "t1_dual", "t2", "ct"]
"""Which scan of a phantom: T1 in phase, T1 out of phase, both as two channels, fat-suppressed T2, or CT."""

CHANNELS = {"t1_in": ("in",), "t1_out": ("out",), "t1_dual": ("in", "out"), "t2": ("t2",), "ct": ("ct",)}


def make_phantom(
    seed: int = 0,
    *,
    subject: int = 1,
    size: int = 256,
    source: PhantomSource = "t1_in",
    orientation: str = "LPS",
    tilt_degrees: float = 0.0,
) -> Case:
    """Make a synthetic abdominal MR or CT scan in which liver, kidneys and spleen are known.

    Organs are ellipsoids whose place, size, tilt and surface vary between subjects, in a body with fat, wall,
    ribs, spine, vessels, lungs, stomach and bowel. Each voxel has a signal of water ``W`` and of fat ``F``,
    blurred at edges: T1 in phase is ``W + F``, out of phase ``|W - F|``, and T2 is fat-suppressed. A smooth
    coil sensitivity multiplies the signal, and the noise is Rician. CT is in Hounsfield units. Several tissues have the
    intensity of an organ, so intensity does not identify organs.

    As in CHAOS, the field of view is 348 to 484 mm at every size, with 26 to 50 slices 5.5 to 9 mm apart. The
    same seed and subject give the same anatomy at every size.

    Args:
        seed: The cohort, 0 or above.
        subject: Which subject of the cohort, 1 or above.
        size: Height and width in pixels, at least 16.
        source: Which scan, as for `read_chaos`.
        orientation: The order in which voxels are stored, three letters for the axes x, y, z. The patient stays as
            they are.
        tilt_degrees: How far the gantry is tilted, from -30 to 30: the axes of the scan are then not at right angles.

    Returns:
        The case, named after the subject; channels "in", "out", "t2" or "ct", classes as in `CHAOS_MR_LABELS`.

    Raises:
        ArgumentError: A number is out of range, or the source or orientation is unknown.
        ArgumentTypeError: A number has the wrong type.

    Example:
        >>> case = make_phantom(0, size=32, source="t1_dual")
        >>> case.image.shape[0], case.image.shape[2:], sorted(set(case.labels.ravel().tolist()))
        (2, (32, 32), [0, 1, 2, 3, 4])
    """
    require_choice("source", source, tuple(CHANNELS))
    check_orientation("orientation", orientation)
    scan = scan_subject(seed, subject, size, tilt_degrees)
    turn = reorientation(scan.geometry.affine, orientation)
    image = np.stack([scan.channel(name) for name in CHANNELS[source]]).astype(np.float32)
    affine = turn.affine(scan.geometry.affine, scan.labels.shape)
    return Case(
        str(subject), turn.apply(image), turn.apply(scan.labels), affine, channel_names=CHANNELS[source]
    )
