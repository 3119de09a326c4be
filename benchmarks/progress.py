"""Tells whoever waits, on standard error."""

import sys


def progress(text: str) -> None:
    """One line."""
    print(text, file=sys.stderr, flush=True)
