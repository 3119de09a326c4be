"""A unary call, made of the stream that every transport has."""

from contextlib import AbstractAsyncContextManager, suppress

import trio

from aelf_p2p.contracts import MessageStream
from aelf_p2p.core.errors import (
    CallFailedError,
    ClosedByUsError,
    ConnectionLostError,
    DeadlineExceededError,
    StatusCode,
)
from aelf_p2p.wire.methods import Method


async def call_unary(
    method: Method,
    opening: AbstractAsyncContextManager[MessageStream],
    request: bytes,
    timeout_s: float,
) -> bytes:
    """Open the stream, send the request, and wait for the one reply. See ``RpcChannel.call``."""
    with trio.move_on_after(timeout_s):
        async with opening as stream:
            # A handler may answer without reading; what became of the call is read below.
            with suppress(ClosedByUsError, ConnectionLostError):
                await stream.send_many([request])
                await stream.send_eof()
            replies: list[bytes] = []
            while len(replies) < 2 and (batch := await stream.receive_many()):
                replies += batch
        if len(replies) != 1:
            many = "several replies" if replies else "no reply"
            raise CallFailedError(StatusCode.INTERNAL, f"{many} to a unary call")
        return replies[0]
    raise DeadlineExceededError(f"{method.name} was not answered within {timeout_s:g} s")
