"""Accepting a dialer where either node is before 1.4: it is dialed back (protocol §3.2)."""

import logging

import trio

from aelf_p2p.contracts import IncomingCall, RpcChannel, Transport
from aelf_p2p.core.admission import refused
from aelf_p2p.core.dial_backs import DialBacks
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.envelope import META_PUBLIC_KEY
from aelf_p2p.core.errors import AelfP2PError, HandshakeRefusedError, RefusalReason, TransportError
from aelf_p2p.core.handshake import ReceivedHandshake
from aelf_p2p.services.connections import Connections, log_end
from aelf_p2p.wire.methods import PING

log = logging.getLogger(__name__)


class UnaryAcceptor:
    """Makes peers of dialers of the old kind, each on a channel of ours, in a task of the nursery
    given."""

    def __init__(
        self, connections: Connections, transport: Transport, nursery: trio.Nursery
    ) -> None:
        self._connections = connections
        self._transport = transport
        self._nursery = nursery
        self._dial_backs = DialBacks(connections.context.options)

    async def accept(self, call: IncomingCall, remote: ReceivedHandshake) -> bytes:
        """The HandshakeReply to a dialer whose handshake is checked; it is in the pool then.

        Raises HandshakeRefusedError, MalformedError when nobody could be dialed at what it says.
        """
        connections = self._connections
        host = call.caller.host
        endpoint = Endpoint.of_untrusted(host, remote.listening_port)
        with connections.context.admission.mark_handshaking(host, remote.public_key) as fresh:
            why = None if fresh else RefusalReason.HANDSHAKING
            why = why or await connections.refuse_unary(host, remote)
            why = why or self._dial_backs.refuse(endpoint, trio.current_time())
            if why is not None:
                raise refused(why)
            reply: bytes = await self._nursery.start(self._run, call, endpoint, remote)
            return reply

    async def _run(
        self,
        call: IncomingCall,
        endpoint: Endpoint,
        remote: ReceivedHandshake,
        *,
        task_status: trio.TaskStatus[bytes],
    ) -> None:
        """A dialed-back connection, from its first byte to its last; starts with our answer."""
        connections = self._connections
        accepted = False
        try:
            async with self._transport.dial(
                endpoint, timeout_s=connections.context.options.dial_timeout_s
            ) as channel:
                await self._ping(channel)
                if connections.context.pool.get(remote.public_key) is not None:
                    raise refused(RefusalReason.REPEATED)  # our own dial was faster
                why = connections.refuse_place(call.caller.host, remote.public_key)
                if why is not None:  # it may have been banned meanwhile
                    raise refused(why)
                sent = connections.handshakes.make(call)
                peer = connections.add_unary_peer(
                    channel, remote, sent, endpoint=endpoint, inbound=True
                )
                accepted = True
                task_status.started(sent.as_reply())
                await connections.run_inbound(peer, call.caller)
        except HandshakeRefusedError:
            accepted = True  # it answers there
            raise
        except Exception as exc:
            if accepted:
                log_end(endpoint, exc)
            elif isinstance(exc, AelfP2PError):
                log.debug("dialing back to %s failed: %s", endpoint, exc)
                raise refused(RefusalReason.UNREACHABLE) from exc
            else:
                raise
        finally:
            if not accepted:  # also when the dialer did not wait
                self._dial_backs.failed(endpoint, trio.current_time())

    async def _ping(self, channel: RpcChannel) -> None:
        """Once more at once when it fails, as each unary call; both within ``ping_timeout_s``."""
        context = self._connections.context
        metadata = {META_PUBLIC_KEY: context.public_key.hex()}
        deadline = trio.current_time() + context.options.ping_timeout_s
        timeout_s = context.options.ping_timeout_s
        try:
            await channel.call(PING, b"", metadata=metadata, timeout_s=timeout_s)
        except TransportError as exc:
            timeout_s = deadline - trio.current_time()
            if timeout_s <= 0:
                raise
            log.debug("pinging once more: %s", exc)
            await channel.call(PING, b"", metadata=metadata, timeout_s=timeout_s)
