"""How large a message may be, by method and direction. 100 MiB holds only for blocks asked for.

Sizes are of one encoded message, in bytes, decompressed. Transports enforce them when a message is
read; ``MessageStream.limit_messages`` sets another limit for one call.
"""

from aelf_p2p.core.envelope import MAX_OVERHEAD_BYTES
from aelf_p2p.core.options import KIB, MIB, NetworkOptions
from aelf_p2p.wire import methods as m

MAX_MESSAGE_BYTES = 100 * MIB
"""The limit of AElf's nodes, either way (protocol §3.4)."""

_BLOCKS = {m.REQUEST_BLOCK, m.REQUEST_BLOCKS}
_BEFORE_HANDSHAKE = {m.PING, m.DO_HANDSHAKE}
_MAX_OTHER_REPLY_BYTES = 64 * KIB


def max_unasked_bytes(options: NetworkOptions) -> int:
    """The most that a message on RequestByStream may weigh while we have asked for no block."""
    return max(options.max_pushed_block_bytes, options.max_transaction_bytes) + MAX_OVERHEAD_BYTES


def max_request_bytes(method: m.Method, options: NetworkOptions) -> int:
    """The most that a message of a caller may weigh, once it has proved who it is."""
    if method == m.REQUEST_BY_STREAM:
        return max_unasked_bytes(options)
    if method in m.BROADCAST_STREAMS:
        return options.max_broadcast_bytes(m.BROADCAST_STREAMS[method])
    if method in _BEFORE_HANDSHAKE:
        return options.max_message_before_handshake_bytes
    return options.max_request_bytes


def max_reply_bytes(method: m.Method, options: NetworkOptions) -> int:
    """The most that a message of a server may weigh, once it has proved who it is."""
    if method == m.REQUEST_BY_STREAM:
        return max_unasked_bytes(options)
    return MAX_MESSAGE_BYTES if method in _BLOCKS else _MAX_OTHER_REPLY_BYTES


def before_trust(method: m.Method, max_bytes: int, options: NetworkOptions) -> int:
    """What a method's ``max_bytes`` come down to until the other side has proved who it is.

    Only where streams are concerned: a unary call is over before it could grow.
    """
    if method.client_streaming or method.server_streaming:
        return min(max_bytes, options.max_message_before_handshake_bytes)
    return max_bytes
