"""What the nodes of a devnet and their driver tell each other: JSON, a line each, over pipes.

A node begins with the line that ``aelf-p2p run`` prints when it listens. Then come, the second for
a peer that it has dialed, the last two for what it accepts,

    {"event": "status", "height": 7, "tip": hex, "peers": 2, "queued": 0, "acknowledged": 51,
     "lost": 0}
    {"event": "dialed"}
    {"event": "transaction", "id": hex}
    {"event": "block", "height": 8, "hash": hex, "made_ns": unix nanoseconds, "at_ns": likewise}

and it is told ``{"command": "mine"}`` or ``{"command": "submit", "transaction": hex}``. The first
status says what it has before it joins the network. It ends when its stdin does.
"""

import json
from dataclasses import dataclass
from typing import Any

import trio

from aelf_p2p.core.errors import MalformedError
from aelf_p2p.core.options import MIB

MAX_LINE_BYTES = 16 * MIB
"""A transaction of 5 MiB fits, in hex."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """How things stand with a node."""

    height: int = 0
    """Of its best chain."""
    tip: str = ""
    """The hash of that chain's last block, in hex; empty when it has accepted a block since."""
    peers: int = 0
    queued: int = 0
    """Broadcasts that wait for its peers."""
    acknowledged: int = 0
    """Broadcasts that its peers have acknowledged since it is up, those of the last moment before
    one left excepted."""
    lost: int = 0
    """Broadcasts that were dropped since it is up."""


class Lines:
    """The messages that come over a pipe."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._unread = bytearray()

    async def receive(self) -> dict[str, Any] | None:
        """The next message; None when the other side has ended. Raises MalformedError."""
        while (end := self._unread.find(b"\n")) < 0:
            try:
                more = await self._stream.receive_some()
            except trio.BrokenResourceError:
                return None
            if not more:
                return None
            self._unread += more
            if len(self._unread) > MAX_LINE_BYTES:
                raise MalformedError(f"a line is longer than {MAX_LINE_BYTES} bytes")
        line = bytes(self._unread[:end])
        del self._unread[: end + 1]
        try:
            message = json.loads(line)
        except ValueError as error:
            raise MalformedError(f"{line[:80]!a} is not JSON") from error
        if not isinstance(message, dict):
            raise MalformedError(f"{line[:80]!a} is not a message")
        return message
