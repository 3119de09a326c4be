"""A handshake proves its key on the connection that it was made for, and once."""

from collections import OrderedDict
from collections.abc import Hashable

MAX_HANDSHAKES = 4096


class Replays:
    """Handshakes that were accepted, until they are too old to be accepted anyway.

    A signature covers neither channel nor recipient (protocol §3), so that whoever saw one could
    show it again. Made in one moment, DoHandshake and the stream's handshake may be the same: on
    one connection that is no replay. Of MAX_HANDSHAKES, of about 300 bytes, the oldest goes; each
    took its sender a signature.
    """

    def __init__(self, max_age_s: float) -> None:
        self._max_age_s = max_age_s
        self._seen: OrderedDict[bytes, tuple[Hashable, float]] = OrderedDict()

    def is_replay(self, digest: bytes, connection: Hashable, made_s: float, now_s: float) -> bool:
        """Whether the handshake of this digest, made at ``made_s``, came on another connection
        before. Notes it otherwise. Wall times, unix seconds."""
        while self._seen and next(iter(self._seen.values()))[1] < now_s:
            self._seen.popitem(last=False)
        held = self._seen.get(digest)
        if held is not None:
            return held[0] != connection
        self._seen[digest] = connection, max(made_s, now_s) + self._max_age_s
        if len(self._seen) > MAX_HANDSHAKES:
            self._seen.popitem(last=False)
        return False
