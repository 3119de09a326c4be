"""The sinks of the benchmark of a stalled peer: some never read, the others note when they did."""

import selectors
import time
from contextlib import suppress

from benchmarks.sinks import Sink, connect
from benchmarks.worker import Parent


class _Noting:
    """A sink that notes how many transactions it had at which time."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.notes: list[tuple[float, int]] = []

    def acknowledge(self) -> None:
        """Read once, note it, answer."""
        now = time.perf_counter()
        self.sink.acknowledge()
        self.notes.append((now, self.sink.acknowledger.transactions))

    def take_notes(self) -> list[tuple[float, int]]:
        """What was noted since the last time; counts are of all time."""
        notes, self.notes = self.notes, []
        return notes


def _run(parent: Parent) -> None:
    """Connect, name the keys of those that stall, then answer each question with the notes of all
    others, a list for each."""
    setup = parent.setup
    sinks = connect(setup["address"], setup["peers"], tls=setup["tls"], wire=setup["wire"])
    stalled, reading = sinks[: setup["stalled"]], sinks[setup["stalled"] :]
    noting = [_Noting(sink) for sink in reading]
    parent.send([sink.public_key.hex() for sink in stalled])
    with selectors.DefaultSelector() as selector:
        selector.register(parent, selectors.EVENT_READ)
        for each in noting:
            selector.register(each.sink.socket, selectors.EVENT_READ, each)
        while True:
            for key, _ in selector.select():
                if isinstance(key.data, _Noting):
                    key.data.acknowledge()
                else:
                    parent.receive()
                    parent.send([each.take_notes() for each in noting])


if __name__ == "__main__":
    with suppress(EOFError):
        _run(Parent())
