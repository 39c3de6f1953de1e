"""Tissues of a phantom: what they look like to the scanners, and class."""

from collections.abc import Mapping

import numpy as np

__all__ = ["BOWEL", "CLASSES", "INDEX", "TISSUES"]

# Signal of water and of fat in T1, signal in T2, Hounsfield units in CT with contrast agent, class. Intensities overlap
# on purpose: bowel, pancreas, heart and marrow look like organs, so that a network has to learn position and shape.
TISSUES: Mapping[str, tuple[float, float, float, float, int]] = {
    "air": (0, 0, 0, -1000, 0),
    "skin fat": (30, 430, 70, -105, 0),
    "inner fat": (40, 390, 65, -95, 0),
    "muscle": (150, 8, 45, 55, 0),
    "bone": (25, 5, 8, 650, 0),
    "marrow": (130, 110, 90, 180, 0),
    "disc": (150, 10, 150, 90, 0),
    "csf": (70, 0, 420, 8, 0),
    "cord": (180, 0, 180, 35, 0),
    "blood": (110, 0, 25, 150, 0),
    "lung": (14, 0, 12, -820, 0),
    "heart": (160, 5, 80, 140, 0),
    "stomach": (140, 0, 300, 30, 0),
    "pancreas": (235, 35, 110, 95, 0),
    "bile": (150, 0, 450, 10, 0),
    "gas": (8, 0, 6, -950, 0),
    "bowel 1": (110, 0, 120, 25, 0),
    "bowel 2": (150, 5, 230, 45, 0),
    "bowel 3": (190, 10, 280, 70, 0),
    "bowel 4": (225, 15, 170, 95, 0),
    "bowel 5": (255, 20, 90, 110, 0),
    "bowel 6": (175, 60, 350, 15, 0),
    "mesentery": (120, 130, 60, -60, 0),
    "liver": (245, 18, 80, 110, 1),
    "liver vessel": (110, 0, 25, 160, 1),
    "right cortex": (210, 0, 260, 185, 2),
    "right medulla": (170, 0, 300, 160, 2),
    "left cortex": (210, 0, 260, 185, 3),
    "left medulla": (170, 0, 300, 160, 3),
    "spleen": (165, 0, 235, 125, 4),
}
INDEX = {name: index for index, name in enumerate(TISSUES)}
CLASSES = np.array([row[4] for row in TISSUES.values()], dtype=np.uint8)
BOWEL = [name for name in TISSUES if name.startswith("bowel")]
