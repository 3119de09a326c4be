"""A network of two: this machine, and a network namespace behind a cable that can be pulled."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

OUTER, INNER = "10.213.77.1", "10.213.77.2"
"""The two ends; nobody else is on their network."""


class Cable:
    """Between this machine and the namespace."""

    def __init__(self, name: str) -> None:
        self.command = ("ip", "netns", "exec", name)
        """What begins the command line of a process that is to run inside."""

    def pull(self) -> None:
        """Packets are dropped from now on, without a word to either end."""
        _run(*self.command, "ip", "link", "set", "inner", "down")


@contextmanager
def namespace() -> Iterator[Cable | None]:
    """One, while the block runs; None where this process may not make any."""
    name = f"aelf-p2p-{os.getpid()}"
    outer = f"aelf{os.getpid() % 10**7}"
    try:
        _run("ip", "netns", "add", name)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        _run("ip", "link", "add", outer, "type", "veth", "peer", "inner", "netns", name)
        _run("ip", "addr", "add", f"{OUTER}/30", "dev", outer)
        _run("ip", "link", "set", outer, "up")
        inside = Cable(name)
        _run(*inside.command, "ip", "addr", "add", f"{INNER}/30", "dev", "inner")
        _run(*inside.command, "ip", "link", "set", "inner", "up")
        _run(*inside.command, "ip", "link", "set", "lo", "up")
        yield inside
    finally:
        _run("ip", "link", "del", outer)  # the other end goes with it
        _run("ip", "netns", "del", name)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
