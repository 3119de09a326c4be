"""A server and a client that connects to it, each a process: what most benchmarks but fan-out need.

Both are one worker module. The server first says what the client is told beside the setup that both
are given: a dictionary with its ``port``, which no server is given. The client first says that it
is ready.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.arguments import wire_name
from benchmarks.children import Child, Children
from benchmarks.contenders import GRPC, GRPC_AIO, TCP
from benchmarks.environments import MAIN, Environment
from benchmarks.progress import progress
from benchmarks.results import Note


@dataclass(frozen=True)
class Ends:
    """How a contender's two ends are started."""

    suffix: str
    """Of the modules: ``latency_<suffix>`` and so on."""
    transport: str | None = None
    """Of ours."""
    packages: Sequence[str] = ()
    """That it needs beside ours, of its environment."""
    environment: Environment = MAIN


PAIRS: Mapping[str, Ends] = {
    GRPC: Ends("ours", "grpc"),
    TCP: Ends("ours", "tcp"),
    GRPC_AIO: Ends("grpc_aio", packages=["grpcio"]),
}


def left_out() -> list[Note]:
    """Who cannot run here, and why."""
    missing = {name: ends.environment.missing(ends.packages) for name, ends in PAIRS.items()}
    return [Note(name, f"left out: {why}") for name, why in missing.items() if why is not None]


@contextmanager
def pairs(
    benchmark: str, *, tls: bool, setup: Mapping[str, object] | None = None
) -> Iterator[dict[str, Child]]:
    """The clients of all contenders that can run, by name, connected as long as the block."""
    absent = {note.about for note in left_out()}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(pair(benchmark, name, tls=tls, setup=setup))
            for name in PAIRS
            if name not in absent
        }


@contextmanager
def pair(
    benchmark: str, name: str, *, tls: bool, setup: Mapping[str, object] | None = None
) -> Iterator[Child]:
    """The client of one of ``PAIRS``."""
    ends = PAIRS[name]
    module = f"{benchmark}_{ends.suffix}"
    common = {**(setup or {}), "transport": ends.transport, "tls": tls}
    progress(f"{name}, {wire_name(tls)}: connecting")
    with Children() as children:

        def start(role: str, setup: Mapping[str, object]) -> Child:
            return children.start(f"{name}'s {role}", module, setup, environment=ends.environment)

        server = start("server", common)
        client = start("client", {**common, **server.receive()})
        client.receive()
        yield client
