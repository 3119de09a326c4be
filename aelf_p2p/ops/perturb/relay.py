"""A TCP port that leads to another one, and can be cut.

What cuts the connections between processes otherwise, a firewall or a namespace of the network,
needs privileges; and a node that is told to drop its own connections would not be surprised.
"""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import trio

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, for no time


class Relay:
    """Passes on bytes both ways, ends and resets too.

    ``target`` gives the address, ``host:port``, to which it leads at the time; while it gives none,
    whoever dials is reset. A connection holds at most what is read at once, each way.
    """

    def __init__(self, target: Callable[[], str | None]) -> None:
        self._target = target
        self._cuts = 0
        self._scopes: dict[trio.CancelScope, None] = {}
        self.address = ""
        """Where it listens, as long as it is served."""

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Listen on a free port of loopback until cancelled, which resets all connections."""
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        host, port = listener.socket.getsockname()
        self.address = f"{host}:{port}"
        async with listener:
            task_status.started()
            await trio.serve_listeners(self._handle, [listener])

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Reset all connections, and all that are made before the block ends."""
        self._cuts += 1
        for scope in self._scopes:
            scope.cancel()
        try:
            yield
        finally:
            self._cuts -= 1

    async def _handle(self, dialer: trio.SocketStream) -> None:
        streams = [dialer]
        ended = False
        try:
            with trio.CancelScope() as scope:
                self._scopes[scope] = None
                address = None if self._cuts else self._target()
                if address is not None:
                    host, _, port = address.rpartition(":")
                    with suppress(OSError):  # nobody listens there any more
                        streams.append(await trio.open_tcp_stream(host, int(port)))
                        ended = await _join(*streams)
        finally:
            del self._scopes[scope]
            for stream in streams:
                if not ended:
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
                stream.socket.close()


async def _join(one: trio.SocketStream, other: trio.SocketStream) -> bool:
    """Pass on what comes, until both sides have ended. False when one of them broke."""
    broken = False

    async def pass_on(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        nonlocal broken
        try:
            async for data in source:
                await sink.send_all(data)
            await sink.send_eof()
        except trio.BrokenResourceError:
            broken = True
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pass_on, one, other)
        nursery.start_soon(pass_on, other, one)
    return not broken
