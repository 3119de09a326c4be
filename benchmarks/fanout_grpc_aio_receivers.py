"""Receivers on grpc.aio: each parses what comes, the transaction too, and acknowledges it."""

import asyncio
import ssl
import time

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from aelf_p2p.core.envelope import META_PUBLIC_KEY, envelope_body, reply_prefix, request_prefix
from aelf_p2p.core.stream_handshake import encode_opening, parse_answer_untrusted
from aelf_p2p.transports.net.tls import COMMON_NAME
from aelf_p2p.wire import MessageType, StreamMessage, StreamType, Transaction
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from benchmarks.greeter import Greeter
from benchmarks.worker import Parent
from benchmarks.workload import HOST

_REQUEST = int(StreamType.REQUEST)  # once, not for every message
_TRANSACTION = int(MessageType.TRANSACTION_BROADCAST)


class _Receiver:
    """One peer of the sender, on a connection of its own."""

    def __init__(self, port: int, *, tls: bool) -> None:
        self.transactions = 0
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.ssl_target_name_override", COMMON_NAME),
        ]
        if tls:
            certificate = ssl.get_server_certificate((HOST, port)).encode()
            credentials = grpc.ssl_channel_credentials(certificate)
            self._channel = grpc.aio.secure_channel(f"{HOST}:{port}", credentials, options)
        else:
            self._channel = grpc.aio.insecure_channel(f"{HOST}:{port}", options)
        self._call: grpc.aio.StreamStreamCall | None = None
        self._replies = b""

    async def connect(self) -> None:
        """Shake hands, and wait until the sender has taken us as a peer."""
        greeter = Greeter()
        key = greeter.public_key
        method = self._channel.stream_stream(REQUEST_BY_STREAM.path)
        self._call = call = method(metadata=((META_PUBLIC_KEY, key.hex()),))
        request_id = greeter.new_request_id()
        handshake = greeter.new_handshake().as_request()
        await call.write(encode_opening(key, request_id, handshake))
        answer, _ = parse_answer_untrusted(
            [await call.read()], request_id, greeter.max_opening_bytes
        )
        session_id = greeter.rules.check_reply_untrusted(answer, time.time_ns()).session_id
        confirmation = envelope_body(MessageType.CONFIRM_HAND_SHAKE, greeter.new_request_id())
        await call.write(request_prefix(key, session_id) + confirmation)
        await call.read()
        self._replies = reply_prefix(session_id)

    async def run(self) -> None:
        """Take what comes and acknowledge it, until cancelled."""
        call = self._call
        assert call is not None
        while (data := await call.read()) is not grpc.aio.EOF:
            message = StreamMessage.FromString(data)
            if message.stream_type != _REQUEST:
                continue
            if message.message_type == _TRANSACTION:
                Transaction.FromString(message.message)
                self.transactions += 1
            body = envelope_body(message.message_type, message.request_id)
            await call.write(self._replies + body)

    async def close(self) -> None:
        """End the connection."""
        await self._channel.close()


async def _run(parent: Parent) -> None:
    """Connect all, say so, then answer each question with what was done so far."""
    setup = parent.setup
    receivers = [_Receiver(setup["address"], tls=setup["tls"]) for _ in range(setup["peers"])]
    for each in receivers:
        await each.connect()
    tasks = [asyncio.create_task(each.run()) for each in receivers]
    parent.send("connected")
    try:
        while True:
            await asyncio.to_thread(parent.receive)
            transactions = sum(each.transactions for each in receivers)
            parent.send({"cpu_seconds": time.process_time(), "transactions": transactions})
    except EOFError:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in receivers:
            await each.close()


if __name__ == "__main__":
    asyncio.run(_run(Parent()))
