"""Intensities: brought to a common scale over the whole volume."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from guided_attention._checks import require
from guided_attention.case import Case

__all__ = ["normalize", "window"]


def normalize(case: Case, *, percentiles: tuple[float, float] = (0.5, 99.5)) -> Case:
    """Bring the grey values of a scan to mean 0 and standard deviation 1, over the whole volume.

    Each channel apart: values are clipped to two percentiles of the volume, then
    ``(value - mean) / standard deviation`` of what the clipping left. Never slice by slice, as the paper's
    code does (least to greatest value of each slice): that would give the same tissue another grey in every
    slice.

    Args:
        case: A scan whose grey values have no unit (MR). For CT, `window` keeps Hounsfield units comparable.
        percentiles: Lower and upper percentile, 0 to 100.

    Returns:
        The case with the new image.

    Raises:
        ValueError: A channel has one value between the percentiles, or the percentiles are not ascending.

    Example:
        >>> from guided_attention.data import make_phantom
        >>> image = normalize(make_phantom(0, size=16)).image
        >>> abs(float(image.mean())) < 1e-5, abs(float(image.std()) - 1) < 1e-4
        (True, True)
    """
    low, high = percentiles
    require(0 <= low < high <= 100, "percentiles", "ascending from 0 to 100", percentiles)  # noqa: PLR2004
    channels = [
        _standardised(channel, percentiles, f"image of case {case.case_id!r}") for channel in case.image
    ]
    return replace(case, image=np.stack(channels))


def _standardised(
    channel: npt.NDArray[np.float32], percentiles: tuple[float, float], where: str
) -> npt.NDArray[np.float32]:
    low, high = np.percentile(channel, percentiles).tolist()
    cure = "Look at the scan: it is empty or nearly so."
    require(low < high, where, "more than one grey value", f"{low} from percentile to percentile", cure)
    clipped = channel.clip(low, high).astype(np.float64)
    standardised: npt.NDArray[np.float64] = (clipped - clipped.mean()) / clipped.std()
    return standardised.astype(np.float32)


def window(case: Case, low: float, high: float) -> Case:
    """Show a range of grey values, as a radiologist's window does: ``low`` becomes 0, ``high`` becomes 1.

    Values outside are clipped. For CT, -160 to 240 Hounsfield units show soft tissue.

    Args:
        case: A scan.
        low: The value that becomes 0.
        high: The value that becomes 1.

    Returns:
        The case with the new image.

    Raises:
        ValueError: ``low`` is not below ``high``.

    Example:
        >>> import numpy as np
        >>> from guided_attention.case import affine_of
        >>> case = Case("7", np.full((1, 2, 3, 5), 40.0, np.float32), None, affine_of((9.0, 1.5, 1.5)))
        >>> float(window(case, -160, 240).image.max())
        0.5
    """
    require(low < high, "low", f"below `high`, {high}", low)
    image = (case.image.clip(low, high) - low) / (high - low)
    return replace(case, image=image.astype(np.float32))
