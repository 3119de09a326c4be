"""What a transport brings to the conformance suite."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import trio
import trio.testing

from aelf_p2p.contracts import Transport
from aelf_p2p.transports.memory import MemoryHub


class TransportFixture(Protocol):
    """How the suite gets transports: such as have the default ``NetworkOptions``.

    Each case runs in a ``trio.run`` of its own.
    """

    @property
    def server_host(self) -> str:
        """The host to listen on, such as ``127.0.0.1``."""

    @property
    def client_host(self) -> str:
        """The host that a server must see its callers at."""

    @property
    def settle_s(self) -> float:
        """Seconds of the fixture's clock without progress after which a sender surely waits.

        The few cases about backpressure wait this long a few times: 0.1 or so is plenty on a real
        clock; in virtual time any number costs nothing.
        """

    @property
    def max_in_flight_bytes(self) -> int:
        """What one stream may hold, one way, of what its reader has not read: windows and buffers.

        A sender that gets rid of more while nothing is read is not held back, and fails the suite,
        which sends at most four times as much.
        """

    def clock(self) -> trio.abc.Clock | None:
        """A new clock for a case; None is trio's own, real time."""

    def open(self) -> AbstractAsyncContextManager[tuple[Transport, Transport]]:
        """A server's and a client's transport for one case, entered inside its ``trio.run``.

        They share nothing with those of other cases, but may be the same object.
        """


class MemoryFixture:
    """The memory transport's fixture, in virtual time; also an example of one."""

    server_host = "server"
    client_host = "client"
    settle_s = 1.0
    max_in_flight_bytes = 1024 * 1024

    def clock(self) -> trio.abc.Clock:
        """A virtual clock, which jumps to the next deadline as soon as all tasks wait."""
        return trio.testing.MockClock(autojump_threshold=0)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Transport, Transport]]:
        """Two hosts of a new hub."""
        hub = MemoryHub()
        yield hub.transport(self.server_host), hub.transport(self.client_host)


class SocketFixture:
    """The fixture of a transport over real sockets, in real time: ``make`` gives one of them.

    ``host`` is an address of this machine that both sides use, such as ``::1``.
    """

    settle_s = 0.1

    def __init__(
        self,
        make: Callable[[], Transport],
        *,
        host: str = "127.0.0.1",
        max_in_flight_bytes: int = 2 * 1024 * 1024,
    ) -> None:
        self.server_host = self.client_host = host
        self.max_in_flight_bytes = max_in_flight_bytes
        self._make = make

    def clock(self) -> None:
        """Real time."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Transport, Transport]]:
        """One transport for the server, and one for the client."""
        yield self._make(), self._make()
