"""Limits and periods of the network layer, with the values that AElf networks use.

Durations are in seconds (``_s``), sizes in bytes (``_bytes``), rates in events a second
(``_per_s``); everything else is a count. Values are those of AElf's C# node unless the comment says
that they are ours.
"""

from dataclasses import dataclass, fields

from aelf_p2p.core.errors import MisuseError
from aelf_p2p.wire import MessageType

PROTOCOL_VERSION = 1
MAX_REF_BLOCK_AHEAD = 512
"""How far above the longest chain the block may be that a transaction refers to."""
KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Everything about the network that an operator may tune.

    Zero means no limit where it says so.
    """

    # The pool.
    max_peers: int = 25  # half of them for inbound ones (ours); 0: no limit
    max_guests: int = 8  # ours: inbound peers that a full pool takes in for a moment; 0: none
    guest_s: float = 5.0  # ours: the moment
    max_peers_per_host: int = 1  # loopback is exempt; 0: no limit
    abnormal_ban_s: float = 300.0  # for wrong blocks and for invalid transactions

    # The handshake.
    dial_timeout_s: float = 3.0
    handshake_timeout_s: float = 6.0  # the unary DoHandshake
    stream_handshake_timeout_s: float = 3.0  # HAND_SHAKE and CONFIRM_HAND_SHAKE on the stream
    unconfirmed_timeout_s: float = 10.0
    rebuild_after_s: float = 1.0  # ours: a stream that broke sooner is not made anew
    first_message_timeout_s: float = 10.0  # ours: an accepted stream that says nothing
    max_message_before_handshake_bytes: int = 64 * KIB  # ours
    handshake_max_age_s: float = 1.5
    handshake_max_ahead_s: float = 1.5  # ours, 0: no limit; C# accepts any future time
    max_handshakes_at_once: int = 200  # ours: of dialers, that are looked at; then per second
    handshakes_per_s: float = 100.0  # ours
    max_handshakes_at_once_per_host: int = 20  # ours: loopback is exempt
    handshakes_per_host_per_s: float = 1.0  # ours
    replace_probe_timeout_s: float = 1.0  # ours: is the peer that a newcomer would replace alive?
    ping_timeout_s: float = 3.0
    dial_private: bool = False  # ours: of what strangers name, names and private addresses too
    max_failed_dial_backs: int = 8  # ours: of a host, in the period; then it is not dialed back
    failed_dial_backs_period_s: float = 60.0  # ours

    # Requests.
    request_timeout_s: float = 2.0  # RequestBlock, GetNodes, HealthCheck
    blocks_timeout_s: float = 5.0
    max_blocks_per_request: int = 50
    max_blocks_reply_bytes: int = 8 * MIB  # ours: of our reply, unless its first block weighs more
    max_nodes_per_reply: int = 10
    max_pending_requests: int = 64  # ours: our own unanswered requests to one peer
    max_serving_requests: int = 64  # ours: a peer's requests waiting for our workers
    workers_per_peer: int = 2  # ours: how many of a peer's requests are served at once
    max_answers_at_once: int = 8  # ours: of all peers' requests, how many are looked up at once

    # What a peer may send unasked (ours; 100 MiB holds for blocks that we asked for).
    max_pushed_block_bytes: int = 4 * MIB
    max_transaction_bytes: int = 5 * MIB  # as C#'s transaction pool
    max_announcement_bytes: int = KIB
    max_request_bytes: int = 8 * KIB

    # Broadcast queues of one peer.
    max_queued_announcements: int = 200  # shared with LIB announcements
    max_queued_transactions: int = 100
    max_queued_blocks: int = 50
    max_queued_bytes: int = 128 * MIB  # ours: all queues of one peer together
    max_control_bytes: int = 8 * MIB  # ours: replies and requests waiting for one peer's sender
    max_large_replies_bytes: int = 512 * MIB  # ours: of 64 KiB and more each, to all peers
    batch_bytes: int = 64 * KIB  # ours: what one send carries at most, unless one item is larger
    batch_items: int = 64  # ours
    max_unacknowledged: int = 1024  # ours: broadcasts in flight
    max_unacknowledged_bytes: int = 128 * MIB  # ours
    acknowledgement_timeout_s: float = 3.0

    # What a peer is known to have.
    known_blocks: int = 1024  # C#: for each peer
    known_blocks_ttl_s: float = 100.0
    known_transactions: int = 10_000  # C#: for each peer
    known_transactions_ttl_s: float = 10.0

    # Invalid transactions of one host.
    max_invalid_transactions: int = 50
    invalid_transactions_window_s: float = 10.0

    # All other misbehaviour of one host (ours), in the points of ``Misbehaviour``.
    max_misbehaviour: int = 100  # then it is banned for abnormal_ban_s
    misbehaviour_half_life_s: float = 600.0

    # Broadcasting and following the chain.
    max_broadcast_age_s: float = 600.0  # blocks and announcements older than this are not sent
    near_tip_blocks: int = 12
    download_batch: int = 10
    download_round: int = 50
    sync_lib_distance: int = 512
    download_patience_s: float = 10.0  # ours: for each batch that a source gives, and once more
    max_lost_sync_s: float = 30.0  # ours: that a source may cost us and give nothing
    max_sync_lead: int = 50_000  # ours: a target is at most so far above the longest chain
    sync_retry_s: float = 5.0  # ours: before a peer that gave nothing is asked again
    max_sync_job_age_s: float = 60.0  # ours; C# begins nothing new while work waits for seconds
    chain_vote_interval_s: float = 60.0  # ours: between two votes on who is on a wrong chain
    max_queued_sync_jobs: int = 16  # ours: announcements and blocks of one peer that wait
    max_queued_sync_bytes: int = 64 * MIB  # ours: blocks sent along that wait, of all peers
    max_event_backlog: int = 1024  # ours: events that one slow subscriber may leave unread
    max_event_backlog_bytes: int = 64 * MIB  # ours: of blocks and transactions among them

    # Liveness (ours; C# keeps a silent peer until a write fails).
    silence_probe_s: float = 20.0
    silence_probe_timeout_s: float = 10.0
    unary_call_period_s: float = 60.0  # to a peer before 1.4, which drops connections that idle

    # The clock, where a time server is given.
    max_clock_drift_s: float = 1.0
    clock_check_period_s: float = 3600.0  # ours
    clock_check_timeout_s: float = 3.0  # ours
    # The workers.
    worker_jitter: float = 0.1  # ours: at most this part of a period is added; 0: none
    health_check_period_s: float = 60.0
    max_health_checks: int = 5  # ours: how many peers are asked at once
    reconnection_period_s: float = 60.0  # doubled with each retry
    reconnection_cap_s: float = 2 * 3600.0  # ours
    reconnection_give_up_s: float = 24 * 3600.0
    max_reconnections: int = 512  # ours: peers that wait to be dialed again
    max_worker_dials: int = 5  # ours: of the reconnection, and as many of discovery, at once
    discovery_period_s: float = 60.0
    discovery_peers: int = 5  # how many are asked for nodes
    discovery_candidates: int = 25  # ours: of what they tell, how many endpoints are tried
    discovery_candidates_per_host: int = 2  # ours: of these; loopback is exempt
    discovery_avoided_per_host: int = 4  # ours: dead ones of a host, then no others are tried
    max_discovery_pings: int = 5  # at once
    discovery_dials: int = 10
    discovery_target: int = 8  # ours: outbound peers; with more of them newcomers find no place
    max_known_nodes: int = 512
    max_known_nodes_per_host: int = 8  # ours; loopback is exempt
    discovery_rest_s: float = 600.0  # ours: before it tries a dead or full node again
    state_save_delay_s: float = 1.0  # ours: how long changes gather before they are saved
    state_save_timeout_s: float = 1.0  # ours: of the last save, at the node's end

    # The end.
    goodbye_timeout_s: float = 1.0  # ours: DISCONNECT sent, and the stream's end seen

    def max_broadcast_bytes(self, message_type: int) -> int:
        """The most that the payload of a broadcast may weigh, by its stream message type."""
        if message_type == MessageType.BLOCK_BROADCAST:
            return self.max_pushed_block_bytes
        if message_type == MessageType.TRANSACTION_BROADCAST:
            return self.max_transaction_bytes
        return self.max_announcement_bytes

    def __post_init__(self) -> None:
        may_be_zero = {
            "max_peers",
            "max_guests",
            "max_peers_per_host",
            "handshake_max_ahead_s",
            "worker_jitter",
        }
        for field in fields(self):
            value = getattr(self, field.name)
            # so put that NaN, which compares with nothing, is refused too
            zero_is_right = isinstance(value, bool) or field.name in may_be_zero
            if not (value > 0 or (value == 0 and zero_is_right)):
                raise MisuseError(f"{field.name} must be above zero, not {value}")
