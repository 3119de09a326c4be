"""Handshakes of this node: made for a connection, checked, and recognised (protocol §3)."""

import weakref
from collections import deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

import trio

from aelf_p2p.contracts import IncomingCall, RpcChannel
from aelf_p2p.core.admission import refused
from aelf_p2p.core.errors import HandshakeRefusedError, MalformedError, OwnHandshakeError
from aelf_p2p.core.handshake import ReceivedHandshake, SentHandshake
from aelf_p2p.core.misbehaviour import Misbehaviour
from aelf_p2p.core.version import uses_stream
from aelf_p2p.services.context import NetworkContext
from aelf_p2p.wire import HandshakeError

TICK_NS = 1_000_000
"""A clock on the wall says the same for this long at most."""

REMEMBERED = 64
"""Of our own handshakes that came back to us; the oldest is forgotten."""


class Handshakes:
    """What both sides of a connection need; no two handshakes that it makes are the same."""

    def __init__(self, context: NetworkContext) -> None:
        self._context = context
        self._last_ns = 0
        self._unanswered: set[str | bytes | None] = set()
        self._came_back: deque[bytes] = deque(maxlen=REMEMBERED)

    @property
    def have_stream(self) -> bool:
        """Whether this node is of the new kind."""
        return uses_stream(self._context.rules.node_version)

    def use_stream_with(self, remote: ReceivedHandshake) -> bool:
        """Whether both nodes are of the new kind; otherwise both keep to the old one."""
        return self.have_stream and uses_stream(remote.node_version)

    def make(self, connection: RpcChannel | IncomingCall) -> SentHandshake:
        """One for a connection, that says how things stand now."""
        context = self._context
        now_ns = context.environment.wall_ns()
        if now_ns <= self._last_ns < now_ns + TICK_NS:
            now_ns = self._last_ns + 1  # or one of two would be a replay
        self._last_ns = now_ns
        return context.rules.make(
            listening_port=context.listening_port,
            status=context.store.status,
            now_ns=now_ns,
            rng=context.environment.rng,
            certificate_hash=connection.certificate_hash,
        )

    def check_request_untrusted(self, request: bytes, call: IncomingCall) -> ReceivedHandshake:
        """Check a dialer's handshake. Raises MalformedError, or HandshakeRefusedError with the code
        to answer. A false one counts against its host."""
        context = self._context
        refusal = context.admission.refuse_handshake(call.caller.host, trio.current_time())
        if refusal is not None:
            raise refused(refusal)
        now_ns = context.environment.wall_ns()
        try:
            remote = context.rules.check_request_untrusted(request, now_ns, call.certificate_hash)
            return self._unless_replayed(remote, call.caller)
        except OwnHandshakeError as exc:
            self._came_back.append(exc.session_id)
            raise
        except (MalformedError, HandshakeRefusedError) as exc:
            if isinstance(exc, MalformedError) or exc.code == HandshakeError.WRONG_SIGNATURE:
                context.caller_misbehaved(call.caller.host, Misbehaviour.FALSE_HANDSHAKE)
            raise

    def check_reply_untrusted(self, reply: bytes, channel: RpcChannel) -> ReceivedHandshake:
        """Check the handshake of a node that we dialed. Raises MalformedError, or
        HandshakeRefusedError with its code or ours."""
        context = self._context
        now_ns = context.environment.wall_ns()
        remote = context.rules.check_reply_untrusted(reply, now_ns, channel.certificate_hash)
        return self._unless_replayed(remote, weakref.ref(channel))

    def _unless_replayed(
        self, remote: ReceivedHandshake, connection: Hashable
    ) -> ReceivedHandshake:
        made_s, now_s = remote.time_ns / 1e9, self._context.environment.wall_s()
        if self._context.replays.is_replay(remote.digest, connection, made_s, now_s):
            raise HandshakeRefusedError(
                HandshakeError.SIGNATURE_TIMEOUT, "its handshake was used on another connection"
            )
        return remote

    # --- our own, as others show them ---

    @contextmanager
    def unanswered(self, sent: SentHandshake) -> Iterator[None]:
        """Around a DoHandshake of ours."""
        self._unanswered.add(sent.session_id)
        try:
            yield
        finally:
            self._unanswered.discard(sent.session_id)

    def is_unanswered(self, session_id: str | bytes | None) -> bool:
        """Whether a DoHandshake of ours that announced this session is still to be answered: only
        the node that we dial can know it."""
        return session_id in self._unanswered

    def came_back(self, sent: SentHandshake) -> bool:
        """Whether a handshake of ours came to us: then the node that we dialed is this one.

        The session id tells it, which nobody knows but the one that we sent it to.
        """
        return sent.session_id in self._came_back
