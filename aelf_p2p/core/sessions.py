"""Session ids: each side announces one, and the other puts it on what it sends (protocol §3)."""

import hmac
import random
from dataclasses import dataclass

SESSION_ID_BYTES = 16
"""What we announce; C# makes 5 bytes and checks no length."""


@dataclass(frozen=True, repr=False)
class Sessions:
    """The two session ids of a connection. Never logged."""

    ours: bytes
    """What we announced: it authenticates messages from the peer."""
    theirs: bytes
    """What the peer announced: we put it on messages to it."""

    def authenticate(self, shown: str | bytes) -> bool:
        """Whether a caller shows what we announced (bytes, or hex text), in constant time."""
        if isinstance(shown, bytes):
            return hmac.compare_digest(self.ours, shown)
        # Text that is not ASCII cannot be hex, and compare_digest refuses it.
        return shown.isascii() and hmac.compare_digest(self.ours.hex(), shown)


def new_session_id(rng: random.Random) -> bytes:
    """A fresh id; with the default randomness of a node it cannot be guessed."""
    return rng.randbytes(SESSION_ID_BYTES)
