"""Processes that a benchmark starts, asks and ends. None outlives it, however it ends.

Each runs a module of this package on the Python of its own environment. It gets its setup first,
then questions, and answers them: a line of JSON each, on its standard input and output. The end of
its standard input tells it to end; ``worker.Parent`` is the other side.
"""

import json
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from benchmarks.environments import MAIN, ROOT, Environment

ANSWER_TIMEOUT_S = 120.0
"""Longer than any round may take."""
END_TIMEOUT_S = 5.0

_READ_BYTES = 1 << 20


class ChildError(Exception):
    """A process of the benchmark failed; what happened is on its standard error."""


class Child:
    """One process: what it says first, and its answers. Made by ``Children.start``."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        # A group of its own: Ctrl-C is the parent's alone, who tells the others to end.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, process_group=0
        )
        self._unread = b""

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def ask(self, question: object, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        """Send a question and wait for the answer. Raises ChildError."""
        self.tell(question)
        return self.receive(timeout_s)

    def tell(self, value: object) -> None:
        """Send something whose answer, if any, is received later. Raises ChildError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(value).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as exc:
            raise ChildError(f"{self.name} is gone") from exc

    def receive(self, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        """What it says next. Raises ChildError."""
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        deadline = time.monotonic() + timeout_s
        pieces = [self._unread]
        while b"\n" not in pieces[-1]:
            left_s = max(0.0, deadline - time.monotonic())
            if not select.select([output], [], [], left_s)[0]:
                raise ChildError(f"{self.name} has not answered for {timeout_s:.0f} s")
            data = os.read(output, _READ_BYTES)
            if not data:
                raise ChildError(f"{self.name} has failed")
            pieces.append(data)
        line, self._unread = b"".join(pieces).split(b"\n", 1)
        return json.loads(line)

    def begin_end(self) -> None:
        """Tell it to end; it sees the end of its standard input."""
        assert self._process.stdin is not None
        with suppress(OSError):  # what was not flushed to one that is gone
            self._process.stdin.close()

    def terminate(self) -> None:
        """End it at once."""
        self._process.terminate()

    def end(self) -> None:
        """Wait until it is gone, killing it when it takes too long."""
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            print(f"{self.name} did not end by itself", file=sys.stderr)
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Children:
    """The processes of one measurement, for as long as the block.

    At its end they are told to end, the last one first; when it ends by an error all are terminated
    at once, or each would complain of another's end.
    """

    def __init__(self) -> None:
        self._children: list[Child] = []

    def start(
        self, name: str, module: str, setup: object = None, *, environment: Environment = MAIN
    ) -> Child:
        """Run ``benchmarks.<module>`` by its name; ``setup`` is what JSON can hold.

        Raises ChildError when it is gone at once, and OSError when there is no such Python.
        """
        command = [str(environment.python), "-m", f"benchmarks.{module}"]
        child = Child(name, command)
        self._children.append(child)
        child.tell(setup)
        return child

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            for child in self._children:
                child.terminate()
        for child in reversed(self._children):
            child.begin_end()
            child.end()
