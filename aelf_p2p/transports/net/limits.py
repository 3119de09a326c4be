"""What a connection may cost: the limits of the socket transports, all of them ours.

Durations are in seconds (``_s``), sizes in bytes (``_bytes``), rates in events a second
(``_per_s``); everything else is a count. What a *message* may weigh is in ``NetworkOptions``.
"""

from dataclasses import dataclass, field, fields

from aelf_p2p.core.budgets import Rate
from aelf_p2p.core.errors import MisuseError
from aelf_p2p.core.options import KIB, MIB


@dataclass(frozen=True, kw_only=True)
class WireLimits:
    """Limits of one transport: of each connection, and of all together."""

    # Connections on which no call is under way whose caller has proved who it is.
    stranger_timeout_s: float = 10.0  # from accept, through TLS, to the handshake
    idle_timeout_s: float = 150.0  # after it, between calls; AElf's nodes make one each minute
    max_strangers: int = 256  # the oldest goes when another comes; as many that were none once
    max_idle_per_host: int = 4  # of those that were none; its oldest goes; loopback is exempt
    stranger_calls: Rate = field(default_factory=lambda: Rate(100, 10))  # of one connection
    stranger_bytes: int = 64 * KIB  # unread, of one connection (grpc: HTTP/2's own 64 KiB - 1)
    stranger_held_bytes: int = 128 * KIB  # unread, and of messages that are not complete
    all_strangers_bytes: int = 32 * MIB  # the same, of all of them

    # Each connection.
    write_timeout_s: float = 30.0  # of 132 KiB, of which the other side takes too little
    goodbye_timeout_s: float = 0.7  # the end: what is queued is sent, and read
    drain_timeout_s: float = 0.4  # of it, at shutdown: unary calls under way may still end
    max_calls: int = 100  # under way at once
    call_window_bytes: int = 64 * KIB - 1  # unread, of one call
    trusted_call_window_bytes: int = MIB  # the same, of a call that has proved who it is
    max_unread_bytes: int = 12 * MIB  # of all calls of a connection
    max_held_bytes: int = 128 * MIB  # of messages that are not complete, decompressed
    send_buffer_bytes: int = 64 * KIB  # of one call: a sender waits when so much is queued
    max_unsent_control_bytes: int = 64 * KIB  # acknowledgements that the other side does not read

    # The whole transport.
    max_connections: int = 4096
    all_held_bytes: int = 1024 * MIB

    # Connections that a host may open: a dial of AElf's nodes takes two, and they ping others too.
    connections_per_host: Rate = field(default_factory=lambda: Rate(40, 2))  # loopback is exempt

    # What a connection may ask for without a message coming of it.
    resets: Rate = field(default_factory=lambda: Rate(400, 100))  # of calls under way
    provoked_resets: Rate = field(default_factory=lambda: Rate(100, 10))
    pings: Rate = field(default_factory=lambda: Rate(100, 20))  # C core sends some with its data
    settings: Rate = field(default_factory=lambda: Rate(50, 5))
    empty_frames: Rate = field(default_factory=lambda: Rate(100, 10))
    late_frames: Rate = field(default_factory=lambda: Rate(10_000, 500))  # of calls that are over
    small_frames: Rate = field(default_factory=lambda: Rate(20_000, 5_000))  # e.g. WINDOW_UPDATE

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not isinstance(value, Rate) and not value > 0:
                raise MisuseError(f"{each.name} must be above zero, not {value}")

    @property
    def growth_bytes(self) -> int:
        """By how much the windows of all trusted calls together may grow, so that whoever keeps to
        its windows keeps within ``max_unread_bytes``; that should hold the first windows too."""
        return max(0, self.max_unread_bytes - self.max_calls * self.call_window_bytes)

    @property
    def connection_bytes(self) -> int:
        """What may be held of one connection that is no stranger's."""
        return self.max_held_bytes + self.max_unread_bytes
