"""Logs of the command line: to stderr, a line each, with UTC times."""

import logging
import sys
import time

from aelf_p2p.ops.arguments import Options
from aelf_p2p.ops.line_budget import LineBudget

LEVELS = ("debug", "info", "warning", "error")


def add_log_level(parser: Options) -> None:
    """Add ``--log-level``."""
    parser.add_argument(
        "--log-level", choices=LEVELS, default="info", help="how much is logged (info)"
    )


def configure_logging(level: str) -> None:
    """Log what is at least of this level."""
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    if level != "debug":  # who debugs wants all of them
        handler.addFilter(LineBudget())
    logging.basicConfig(level=level.upper(), handlers=[handler])
