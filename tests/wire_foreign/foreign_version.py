"""Node versions, compared as .NET compares them (protocol §3)."""

import re

STREAM_VERSION = (1, 4, 0, 0)
"""From this one on a node speaks over a stream (protocol §3.1)."""

_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){1,3}")


def uses_stream(text: str) -> bool:
    """Whether a node of this version speaks over a stream. ValueError for what is no version."""
    if not _VERSION.fullmatch(text):
        raise ValueError(f"{text!r} is not a version")
    parts = [int(part) for part in text.split(".")]
    # A part that is not there is below zero, so that 1.4 is below 1.4.0.0.
    return (*parts, -1, -1)[:4] >= STREAM_VERSION
