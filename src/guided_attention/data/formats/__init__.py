"""Formats: files of voxels, opened by their ending. `read_volume` and `read_nifti` are their doors."""
