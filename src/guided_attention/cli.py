"""The command line `guided-attention`: reads arguments, calls one recipe, and returns an exit code."""

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line."""
    print("guided-attention", file=sys.stderr)  # noqa: T201
    return 0
