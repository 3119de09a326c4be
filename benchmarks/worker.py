"""The other end of ``children``: what a worker's process does with its standard streams.

Nothing but the standard library here, since workers run in the environments of rivals too.
"""

import json
import os
import select
import sys
import threading
import time
from typing import Any

END_GRACE_S = 3.0
"""What a worker may take to end once its parent is gone."""


class Parent:
    """The process that started this one. Values are what JSON can hold, one to a line."""

    def __init__(self) -> None:
        """Take standard input and output: what anyone else prints goes to standard error."""
        self._input = os.fdopen(os.dup(0), "rb")
        self._output = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        self.setup = self.receive()
        """What ``Children.start`` was given."""
        threading.Thread(target=self._end_behind_it, name="parent's end", daemon=True).start()

    def fileno(self) -> int:
        """For a selector: readable when ``receive`` has something, or its end came."""
        return self._input.fileno()

    def receive(self) -> Any:
        """Wait for the next question. Raises EOFError when the parent wants no more, or is gone."""
        line = self._input.readline()
        if not line:
            raise EOFError
        return json.loads(line)

    def send(self, answer: object) -> None:
        """Answer, or say something first. Raises EOFError when the parent is gone."""
        try:
            self._output.write(json.dumps(answer).encode() + b"\n")
            self._output.flush()
        except BrokenPipeError as exc:
            raise EOFError from exc

    def _end_behind_it(self) -> None:
        # A worker in the middle of a round reads nothing; hanging up is seen nevertheless.
        poll = select.poll()
        poll.register(self._input.fileno(), 0)
        poll.poll()
        time.sleep(END_GRACE_S)
        print(f"{sys.argv[0]} was ended behind its parent", file=sys.stderr, flush=True)
        os._exit(1)
