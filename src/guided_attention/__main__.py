"""``python -m guided_attention``: the same as the command ``guided-attention``."""

import sys

from guided_attention.cli import main

if __name__ == "__main__":
    sys.exit(main())
