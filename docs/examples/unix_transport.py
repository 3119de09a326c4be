"""A whole transport: nodes of one machine talk over Unix sockets in a directory (Linux).

A port is the name of a socket. Each call is a connection of its own, so that the kernel makes a
sender wait for its reader, and closing the connection cancels the call. One more stands for the
channel: the server ends its half of that before it stops. Whoever may enter the directory is
believed which port it calls from: keep it to one user, as ``TemporaryDirectory`` does.
"""

import logging
import random
import select
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from weakref import WeakSet

import trio

import aelf_p2p as p2p
from aelf_p2p.transports import toolkit as kit

HOST = "127.0.0.1"  # everyone's: on loopback bans are for keys
PORTS = range(49152, 65536)  # that are taken when none is asked for
log = logging.getLogger(__name__)


class UnixCall(kit.ByteCall):
    """Either end of a connection: a MessageStream."""

    def __init__(self, what: str, options: p2p.NetworkOptions, stream: trio.SocketStream) -> None:
        super().__init__(what, options)
        self._socket = stream.socket

    async def send_some(self, data: bytearray) -> int:
        return await self._socket.send(data)

    async def receive_some(self) -> bytes:
        return await self._socket.recv(64 * 1024)

    async def wait_left(self) -> None:
        with self._leaving() as leaving:
            await trio.lowlevel.wait_readable(leaving.fileno())

    @property
    def is_left(self) -> bool:
        """Whether either side has closed."""
        if self._socket.fileno() < 0:
            return True
        with self._leaving() as leaving:
            return bool(leaving.poll(0))

    def _leaving(self) -> select.epoll:
        """Ready once the other side has closed, however much is unread before that."""
        leaving = select.epoll()
        leaving.register(self._socket, select.EPOLLRDHUP)
        return leaving

    def close(self) -> None:
        self._socket.close()


async def connect(path: Path, what: str, options: p2p.NetworkOptions) -> UnixCall:
    try:
        return UnixCall(what, options, await trio.open_unix_socket(path))
    except OSError as error:
        raise p2p.ConnectionLostError(f"{path} cannot be reached: {error}") from error


class UnixChannel:
    """A dialed connection: an RpcChannel. The server holds the other end of ``held``."""

    certificate_hash = None

    def __init__(self, path: Path, held: UnixCall, options: p2p.NetworkOptions) -> None:
        self._path, self._held, self._options = path, held, options
        self._caller = {"port": str(random.choice(PORTS))}  # the same on all calls
        self._drain = trio.Lock()
        self.calls: WeakSet[UnixCall] = WeakSet()

    @property
    def is_open(self) -> bool:
        return not (self._held.they_ended or self._held.is_left)

    async def wait_draining(self) -> None:
        async with self._drain:  # any number of tasks may wait here
            await self._held.receive_many()

    async def call(
        self, method: kit.Method, request: bytes, *, metadata: kit.Metadata, timeout_s: float
    ) -> bytes:
        opening = self.open_stream(method, metadata=metadata)
        return await kit.call_unary(method, opening, request, timeout_s)

    @asynccontextmanager
    async def open_stream(
        self, method: kit.Method, *, metadata: kit.Metadata
    ) -> AsyncIterator[UnixCall]:
        if not self.is_open:
            raise p2p.ConnectionLostError(f"{self._path} takes no more calls")
        call = await connect(self._path, f"{method.name} to {self._path}", self._options)
        async with call.opened(method, {**metadata, **self._caller}):
            self.calls.add(call)
            yield call


class UnixTransport:
    """The Transport of all nodes that are given the same directory."""

    def __init__(self, directory: str | Path, options: p2p.NetworkOptions | None = None) -> None:
        self._directory, self._options = Path(directory), options or p2p.NetworkOptions()

    @asynccontextmanager
    async def dial(self, endpoint: p2p.Endpoint, *, timeout_s: float) -> AsyncIterator[UnixChannel]:
        """Connect, which such a socket does at once or not at all."""
        if endpoint.host != HOST:
            raise p2p.ConnectionLostError(f"{endpoint} is not on this machine, {HOST}")
        path = self._directory / str(endpoint.port)
        held = await connect(path, f"the connection to {path}", self._options)
        async with held.opened(None, {}):
            channel = UnixChannel(path, held, self._options)
            try:
                yield channel
            finally:
                for call in channel.calls:
                    call.close()

    async def serve(
        self,
        host: str,
        port: int,
        handler: kit.CallHandler,
        *,
        on_fault: kit.OnFault = kit.ignore_fault,
        task_status: trio.TaskStatus[p2p.Endpoint] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen, whatever ``host`` says."""
        free = (n for n in PORTS if not (self._directory / str(n)).exists())
        endpoint = p2p.Endpoint(HOST, port or next(free, 0))
        path = self._directory / str(endpoint.port)
        with socket.socket(socket.AF_UNIX) as listening:
            try:
                listening.bind(str(path))
            except OSError as error:
                hint = "a socket that a killed node left has to be removed"
                raise p2p.MisuseError(f"cannot listen on {path}: {error} ({hint})") from error
            listening.listen(1024)
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
            try:
                task_status.started(endpoint)
                await trio.serve_listeners(partial(self._accept, handler), [listener])
            finally:
                path.unlink(missing_ok=True)

    async def _accept(self, handler: kit.CallHandler, stream: trio.SocketStream) -> None:
        """Serve one connection; whatever goes wrong on it is no one else's."""
        call = UnixCall("a caller", self._options, stream)
        try:
            method, metadata = await call.receive_opening()
            if method is None:
                await call.hold()
            else:
                caller = p2p.Endpoint.parse_untrusted(f"{HOST}:{metadata.pop('port', '')!s}")
                await call.serve(handler, kit.IncomingCall(method, metadata, caller, call))
        except p2p.AelfP2PError as error:
            log.debug("a connection was let go: %s", error)
        except Exception:
            log.exception("serving a connection failed")
        finally:
            call.close()


async def main() -> None:
    alice_key, bob_key = p2p.Identity.generate(), p2p.Identity.generate()
    store = p2p.MemoryChainStore()
    kernel = p2p.MinimalKernel(store, chain_id="AELF")
    with TemporaryDirectory() as directory:
        unix = UnixTransport(directory)
        async with (
            p2p.open_node(identity=alice_key, transport=unix, store=store, kernel=kernel),
            p2p.open_node(identity=bob_key, transport=unix, port=0, boot_nodes=[HOST]) as bob,
        ):
            await bob.wait_initialized()
            [alice] = bob.peers()
            print("bob shook hands with", alice.info)
            with bob.subscribe() as events:
                block = await kernel.mine_block(alice_key)  # alice broadcasts it
                async for event in events:
                    if isinstance(event, p2p.BlockAccepted):
                        print("bob accepted block", event.block.height)
                        break
            print("bob asked for it:", await alice.request_block(block.hash) == block)


if __name__ == "__main__":
    trio.run(main)
