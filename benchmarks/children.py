"""Processes that the benchmark starts, asks and ends. None outlives it, however it ends."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.workload import ROUND_TIMEOUT_S, Workload

END_TIMEOUT_S = 5.0

Target = Callable[[Connection, Workload, int], None]
"""Runs in the process, until its connection ends: ``(connection, workload, port)``. A sender gets
port 0, and first says where it listens; the sinks get that port, and first say when all are
connected."""


class ChildError(Exception):
    """A process of the benchmark failed; what happened is on its standard error."""


class Child:
    """One process: what it says first, and its answers."""

    def __init__(self, name: str, connection: Connection) -> None:
        self._name = name
        self._connection = connection

    def ask(self, question: object) -> Any:
        """Send a question and wait for the answer. Raises ChildError."""
        try:
            self._connection.send(question)
        except OSError as exc:
            raise ChildError(f"{self._name} is gone") from exc
        return self.receive()

    def receive(self) -> Any:
        """What it says next. Raises ChildError."""
        if not self._connection.poll(2 * ROUND_TIMEOUT_S):
            raise ChildError(f"{self._name} does not answer")
        try:
            return self._connection.recv()
        except (EOFError, OSError) as exc:
            raise ChildError(f"{self._name} has failed") from exc


@contextmanager
def running(name: str, target: Target, workload: Workload, port: int) -> Iterator[Child]:
    """A process that lives as long as the block; the end of its connection ends it."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, workload, port), name=name, daemon=True)
    # Ctrl-C goes to the whole group: the parent alone acts on it, children inherit the ignoring.
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, on_interrupt)
    theirs.close()
    try:
        yield Child(name, ours)
    except BaseException:
        for child in active_children():  # all at once, or each would complain of another's end
            child.terminate()
        raise
    finally:
        ours.close()
        process.join(END_TIMEOUT_S)
        if process.is_alive():
            print(f"{name} did not end by itself", file=sys.stderr)
            process.kill()
            process.join()
