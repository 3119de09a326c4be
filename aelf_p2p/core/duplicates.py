"""Two nodes that dial each other at once end with one connection (protocol §3.3).

Each dial has two times, both told by the dialer's own clock: that of its unary DoHandshake, which
begins it, and that of the HAND_SHAKE on its stream. Both nodes learn both. Where either node is
before 1.4 there is no stream, and DoHandshake alone says both.
"""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class DialTimes:
    """When one dial began, and when its stream handshake was sent (unix nanoseconds)."""

    handshake_ns: int
    stream_handshake_ns: int

    @classmethod
    def without_stream(cls, handshake_ns: int) -> Self:
        """Of a dial where either node is before 1.4."""
        return cls(handshake_ns, handshake_ns)


@dataclass(frozen=True)
class Dialer:
    """One of the two nodes, as far as the rule looks at it."""

    public_key: bytes
    times: DialTimes


def keep_own_dial(own: Dialer, other: Dialer, *, other_is_csharp: bool) -> bool:
    """Whether our dial stays, of two that ran at the same time; otherwise the other side's does.

    Between our own nodes the dial that began first stays, and at equal times the one of the lower
    public key, so that both sides come to the same answer whatever arrives first. A C# node keeps
    its own dial when our stream handshake is later than its DoHandshake, and drops it otherwise:
    then we do what leaves the one that it keeps. Without streams that is the same as our rule, but
    for equal times, at which it drops its own.
    """
    if other_is_csharp:
        return own.times.stream_handshake_ns <= other.times.handshake_ns
    own_rank = (own.times.handshake_ns, own.public_key)
    return own_rank < (other.times.handshake_ns, other.public_key)


def overlap(own: DialTimes, other: DialTimes, *, lasting_ns: int = 0) -> bool:
    """Whether two dials ran at the same time: each began before the other's stream handshake, or
    within ``lasting_ns`` behind it.

    When they did not, the later one is a redial of a node that lost the earlier connection.
    """
    return (
        own.handshake_ns <= other.stream_handshake_ns + lasting_ns
        and other.handshake_ns <= own.stream_handshake_ns + lasting_ns
    )
