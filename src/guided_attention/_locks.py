"""Folders that one process at a time may write to."""
