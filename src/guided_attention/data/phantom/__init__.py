"""Phantom: synthetic abdominal MR scans with known organs, made in memory or written as a CHAOS release."""

from guided_attention.data.phantom.phantom import PhantomSource, make_phantom
from guided_attention.data.phantom.release import write_phantom_cohort

__all__ = ["PhantomSource", "make_phantom", "write_phantom_cohort"]
