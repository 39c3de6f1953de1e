"""Layouts: how folders of scans are laid out, and which files make a case. `open_cohort` is their door."""
