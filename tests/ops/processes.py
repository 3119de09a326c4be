"""The command line as processes of their own, and what they say."""

import functools
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from threading import Condition, Thread
from typing import IO, Any, TypeVar

import trio

from aelf_p2p.ops.passwords import ENVIRONMENT_VARIABLE

T = TypeVar("T")

WAIT_S = 60.0
"""Whatever is waited for comes within a second or two; a busy machine has more time."""

PROGRAM = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from aelf_p2p.ops.cli import main; sys.exit(main())"
)
"""What the installed ``aelf-p2p`` does, also when the tests run in the background of a shell, which
lets them and their processes ignore SIGINT."""
PROGRAM_AT_TERMINAL = f"import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); {PROGRAM}"

UNUSUAL = {ENVIRONMENT_VARIABLE, "PYTHONUNBUFFERED"}
"""What someone may have in the environment who runs the tests; no process is given it."""

LOG_LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) +[\w.]+: "
)


class _Lines:
    """What a pipe gives, line by line, read in a thread so that the process never waits; nothing
    when the test has put something else there."""

    def __init__(self, pipe: IO[str] | None) -> None:
        self._pipe = pipe or io.StringIO()
        self._lines: list[str] = []
        self._ended = False
        self._changed = Condition()
        self._thread = Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        for line in self._pipe:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def first(self, is_it: Callable[[str], object]) -> str:
        """Wait for a line."""

        def found() -> str | None:
            return next(filter(is_it, self._lines), None)

        with self._changed:
            self._changed.wait_for(lambda: self._ended or found() is not None, WAIT_S)
            line = found()
        assert line is not None, f"not among the lines: {self._lines}"
        return line

    def all(self) -> list[str]:
        """Wait for the end."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._ended, WAIT_S), self._lines
            return self._lines

    def close(self) -> None:
        """Once the process is gone."""
        self._thread.join()
        self._pipe.close()


class Process:
    """A command that runs, as :func:`start` gives it. Its methods wait in the caller's thread."""

    def __init__(self, popen: "subprocess.Popen[str]") -> None:
        self._popen = popen
        self._stdout, self._stderr = _Lines(popen.stdout), _Lines(popen.stderr)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @functools.cached_property
    def listening(self) -> dict[str, Any]:
        """The first line on stdout; waits for it."""
        said = json.loads(self._stdout.first(lambda line: True))
        assert isinstance(said, dict)
        return said

    @property
    def address(self) -> str:
        return str(self.listening["address"])

    @property
    def public_key(self) -> bytes:
        return bytes.fromhex(self.listening["public_key"])

    def wait_printed(self, text: str) -> str:
        """Wait for a line on stdout that holds a text."""
        return self._stdout.first(lambda line: text in line)

    def wait_logged(self, text: str) -> str:
        """Wait for a line on stderr that holds a text."""
        return self._stderr.first(lambda line: text in line)

    def wait_until(self, is_true: Callable[[], bool]) -> None:
        """Wait for what the process does elsewhere, while it lives."""
        turns = 0
        while not is_true():
            turns += 1
            assert turns < WAIT_S / 0.01, "it takes too long"
            try:
                self._popen.wait(0.01)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"it ended: {self.errors()}")

    def send(self, *numbers: signal.Signals) -> None:
        """Send signals; several of them arrive as one, before it can act on the first."""
        if len(numbers) > 1:
            numbers = (signal.SIGSTOP, *numbers, signal.SIGCONT)
        for number in numbers:
            self._popen.send_signal(number)

    def wait(self) -> int:
        """Wait for the end; returns the exit status."""
        return self._popen.wait(WAIT_S)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it with a signal; returns the exit status."""
        self.send(number)
        return self.wait()

    def printed(self) -> list[str]:
        """The lines on stdout, once it has ended."""
        return self._stdout.all()

    def logged(self) -> list[str]:
        """The lines of the log, once it has ended."""
        return [line for line in self._stderr.all() if LOG_LINE.match(line)]

    def errors(self) -> list[str]:
        """The lines on stderr beside the log, once it has ended."""
        return [line for line in self._stderr.all() if not LOG_LINE.match(line)]

    def close(self) -> None:
        """Kill it unless it has ended."""
        self._popen.kill()
        self._popen.wait()
        self._stdout.close()
        self._stderr.close()


@contextmanager
def start(
    *arguments: object,
    program: str = PROGRAM,
    python: Sequence[str] = (),
    **settings: Any,
) -> Iterator[Process]:
    """A command, killed at the end of the block if it still runs.

    ``python`` are options of Python itself, and ``settings`` are Popen's.
    """
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = Process(
        subprocess.Popen(
            [sys.executable, "-W", "error", *python, "-c", program, *map(str, arguments)],
            env={name: os.environ[name] for name in os.environ.keys() - UNUSUAL},
            encoding="utf-8",
            errors="backslashreplace",
            **pipes | settings,
        )
    )
    try:
        yield process
    finally:
        process.close()


class Terminal:
    """What someone sees and types who sits at the terminal of a process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.shown = ""

    def wait_shown(self, text: str) -> None:
        """Wait until a text is shown."""
        while text not in self.shown:
            self._look()

    def everything(self) -> str:
        """All that is shown until the process ends."""
        with suppress(OSError):  # EIO: nobody has the other side open any more
            while True:
                self._look()
        return self.shown

    def _look(self) -> None:
        ready, _, _ = select.select([self._descriptor], [], [], WAIT_S)
        assert ready, self.shown
        self.shown += os.read(self._descriptor, 1000).decode()

    def echoes(self) -> bool:
        """Whether what is typed is shown."""
        return bool(termios.tcgetattr(self._descriptor)[3] & termios.ECHO)

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode("utf-8", "surrogateescape"))


@contextmanager
def start_at_terminal(*arguments: object) -> Iterator[tuple[Process, Terminal]]:
    """A command with a terminal for its input, and of its own."""
    ours, its = pty.openpty()
    try:
        with start(
            *arguments, program=PROGRAM_AT_TERMINAL, stdin=its, start_new_session=True
        ) as process:
            os.close(its)
            yield process, Terminal(ours)
    finally:
        os.close(ours)


@contextmanager
def start_node(
    *arguments: object,
    key: tuple[object, ...] = ("--ephemeral-key",),
    listen: str = "127.0.0.1:0",
) -> Iterator[Process]:
    """``aelf-p2p run``, which listens when the block begins."""
    with start("run", *key, "--listen", listen, *arguments) as process:
        assert process.listening["event"] == "listening"
        yield process


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Do what waits for a process while nodes of this one go on."""
    return await trio.to_thread.run_sync(function, *arguments)


@asynccontextmanager
async def running_node(*arguments: object, listen: str = "127.0.0.1:0") -> AsyncIterator[Process]:
    """:func:`start_node`, for a test with nodes of its own."""
    manager = start_node(*arguments, listen=listen)
    process = await in_thread(manager.__enter__)
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True):
            await in_thread(manager.__exit__, None, None, None)


def pids_of(directory: Path, name: str = "") -> list[int]:
    """The processes that were started with what is in a directory in their arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{directory}/{name}".encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


def wait_gone(pids: list[int]) -> bool:
    """Whether all processes end in time, none of them a child of this one."""
    poll = select.poll()
    waiting = set()
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        poll.register(descriptor, select.POLLIN)
        waiting.add(descriptor)
    try:
        while waiting:
            ended = poll.poll(WAIT_S * 1000)
            if not ended:
                return False
            for descriptor, _ in ended:
                poll.unregister(descriptor)
                os.close(descriptor)
                waiting.discard(descriptor)
        return True
    finally:
        for descriptor in waiting:
            os.close(descriptor)
