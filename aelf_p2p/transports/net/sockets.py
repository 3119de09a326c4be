"""TCP: listening, accepting and dialing, with the operating system's errors as ours."""

import errno
import logging
import math
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

import trio

from aelf_p2p.core.endpoint import MAX_PORT, Endpoint, normalise_host
from aelf_p2p.core.errors import ConnectionLostError, MisuseError
from aelf_p2p.core.single_error import single_error_as_itself

log = logging.getLogger(__name__)

ACCEPT_PAUSE_S = 0.1
"""How long accepting waits when the system has no room for another connection."""
ACCEPT_WARNING_PERIOD_S = 60.0

_FREE_PORT_TRIES = 8
# The family or the address is not there: "localhost" names ::1 also where IPv6 is switched off.
_NOT_ON_THIS_MACHINE = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


async def open_listeners(host: str, port: int) -> tuple[list[trio.SocketListener], Endpoint]:
    """Listen on all addresses of a host, on one port; 0 asks for a port that is free on all.

    The host is an IPv4 or IPv6 address, with its scope where it needs one, or a name. "0.0.0.0"
    stands for all IPv4 addresses, "::" for all IPv6 addresses, and for no IPv4 one. What a name
    says beside this machine's own addresses is left out. The endpoint is the first address bound.
    Raises MisuseError with the system's reason.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if not 0 <= port <= MAX_PORT:
        raise MisuseError(f"cannot listen on {where}: no such port")
    try:
        addresses = await _addresses(normalise_host(host))
        listeners = await _listen_on_one_port(addresses, port)
    except (OSError, ValueError) as error:  # ValueError: a name that no resolver can be asked for
        raise MisuseError(f"cannot listen on {where}: {_reason(error)}") from error
    return listeners, _endpoint(listeners[0].socket.getsockname())


async def _addresses(host: str) -> list[str]:
    """The addresses of a host, each once, with their scopes."""
    found = await trio.socket.getaddrinfo(
        host, None, type=trio.socket.SOCK_STREAM, flags=trio.socket.AI_PASSIVE
    )
    addresses: dict[str, None] = {}
    for *_, (address, _port, *flow_and_scope) in found:
        scope = flow_and_scope[1] if flow_and_scope else 0
        addresses[f"{address}%{scope}" if scope else str(address)] = None
    return list(addresses)


async def _listen_on_one_port(addresses: Sequence[str], port: int) -> list[trio.SocketListener]:
    """A listener for each address; port 0 is chosen again when it is taken on a later address."""
    for _ in range(_FREE_PORT_TRIES - 1):
        try:
            return await _listen(addresses, port)
        except OSError as error:
            if port != 0 or error.errno != errno.EADDRINUSE:
                raise
    return await _listen(addresses, port)


async def _listen(addresses: Sequence[str], port: int) -> list[trio.SocketListener]:
    missing: OSError | None = None
    listeners: list[trio.SocketListener] = []
    with ExitStack() as opened:
        for address in addresses:
            try:
                [listener] = await trio.open_tcp_listeners(port, host=address)
            except OSError as error:
                if error.errno not in _NOT_ON_THIS_MACHINE:
                    raise
                missing = error
                continue
            opened.callback(listener.socket.close)
            listeners.append(listener)
            port = listener.socket.getsockname()[1]
        if not listeners and missing is not None:
            raise missing
        opened.pop_all()
    return listeners


async def accept_forever(
    listeners: Sequence[trio.SocketListener], started: Callable[[trio.SocketStream], object]
) -> NoReturn:
    """Accept on all listeners until cancelled, and close them then.

    ``started`` is given each connection, and owns it from then on; it must not wait. While the
    system refuses to hand over connections, above all for want of descriptors, accepting pauses
    and tries again; those that fail before they are accepted are passed over.
    """
    shortage = _Shortage()
    with ExitStack() as opened:
        for listener in listeners:
            opened.callback(listener.socket.close)
        with single_error_as_itself():
            async with trio.open_nursery() as nursery:
                for listener in listeners:
                    nursery.start_soon(_accept_on, listener, started, shortage)
                await trio.sleep_forever()
    raise AssertionError("a nursery has swallowed its cancellation")


async def _accept_on(
    listener: trio.SocketListener,
    started: Callable[[trio.SocketStream], object],
    shortage: "_Shortage",
) -> NoReturn:
    while True:
        try:
            stream = await listener.accept()
        except OSError as error:
            # EMFILE, ENFILE, ENOBUFS or ENOMEM: trio passes over what only concerns one connection.
            # Linux may report nearly anything here, and none of it is a reason to stop listening.
            shortage.met(error)
            await trio.sleep(ACCEPT_PAUSE_S)
        else:
            started(stream)


class _Shortage:
    """Warns that nothing can be accepted, at most once a minute for all listeners together."""

    def __init__(self) -> None:
        self._next_warning_at = -math.inf

    def met(self, error: OSError) -> None:
        now = trio.current_time()
        if now >= self._next_warning_at:
            self._next_warning_at = now + ACCEPT_WARNING_PERIOD_S
            log.warning("no connections can be accepted for now: %s", _reason(error))


async def connect(endpoint: Endpoint) -> trio.SocketStream:
    """Connect to the first address of an endpoint that answers (RFC 8305); no deadline of its own.

    Raises ConnectionLostError.
    """
    try:
        return await trio.open_tcp_stream(endpoint.host, endpoint.port)
    except OSError as error:
        # trio keeps what each address said in a group below an error that says nothing.
        failures: Sequence[BaseException] = [error]
        if isinstance(error.__cause__, ExceptionGroup):
            failures = error.__cause__.exceptions
        reasons = ", ".join(dict.fromkeys(map(_reason, failures)))
        raise ConnectionLostError(f"{endpoint} cannot be reached: {reasons}") from failures[0]


def caller_of(stream: trio.SocketStream) -> Endpoint | None:
    """Where an accepted connection comes from; None when the caller is gone already."""
    try:
        return _endpoint(stream.socket.getpeername())
    except OSError:  # ENOTCONN, or EBADF once it is closed here
        return None


def _endpoint(address: tuple[Any, ...]) -> Endpoint:
    """Of a socket's name: (host, port) or (host, port, flow, scope)."""
    return Endpoint(address[0], address[1])


def _reason(error: BaseException) -> str:
    """What the operating system or the resolver says, and nothing else."""
    match error:
        case trio.socket.gaierror(strerror=str(text)):
            return text
        case OSError(errno=int(number)):  # trio may have put an address into the text
            return os.strerror(number)
        case _:
            return str(error)
