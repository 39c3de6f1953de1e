"""``python -m guided_attention``, and the command ``guided-attention``: Ctrl-C is one line from the first import on."""

import sys


def main() -> int:
    """Run the command line, see `guided_attention.cli.main`."""
    try:
        from guided_attention import cli  # noqa: PLC0415

        return cli.main()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
