"""Measurements of speed and memory, ours beside what it is held against: see README.md."""
