"""Phantom: synthetic abdominal MR and CT scans with known organs, in memory or in the layouts that are read."""

from guided_attention.data.phantom.accidents import ACCIDENTS, Accident, plant_accident
from guided_attention.data.phantom.phantom import PhantomSource, make_phantom
from guided_attention.data.phantom.release import PhantomLayout, write_phantom_cohort

__all__ = [
    "ACCIDENTS",
    "Accident",
    "PhantomLayout",
    "PhantomSource",
    "make_phantom",
    "plant_accident",
    "write_phantom_cohort",
]
