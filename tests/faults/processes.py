"""Modules of the tests that run in processes of their own."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from subprocess import PIPE

import trio


@asynccontextmanager
async def other_process(
    module: str, *arguments: str, before: tuple[str, ...] = ()
) -> AsyncIterator[trio.Process]:
    """``python -m module``, killed in the end; ``before`` begins its command line."""
    command = [*before, sys.executable, "-m", module, *arguments]
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, command, stdin=PIPE, stdout=PIPE, check=False)
        process: trio.Process = await nursery.start(run)
        try:
            yield process
        finally:
            process.kill()


async def read_line(process: trio.Process) -> str:
    """The next line that it prints. Raises EOFError when it has ended."""
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        piece = await process.stdout.receive_some(1)
        if not piece:
            raise EOFError(f"it said {line!r} and no more")
        line += piece
    return line.decode().rstrip()
