"""What is measured: so many transactions, each to so many peers, and what one round of it took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from aelf_p2p.core.errors import MisuseError
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.testing.vectors import load_vectors

MANY_HANDSHAKES = 1_000_000
"""At once, of a node that is benchmarked: more than a node should bear otherwise."""
HOST = "127.0.0.1"
ROUND_TIMEOUT_S = 60.0
"""A round that takes longer has lost something."""

_NUMBER_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a sender sends, and to how many: the setup of its process, as a dictionary of fields."""

    peers: int
    payload_bytes: int
    messages: int
    """Transactions a round."""
    tls: bool

    @property
    def deliveries(self) -> int:
        """Of one round, each acknowledged."""
        return self.peers * self.messages


@dataclass(frozen=True)
class Round:
    """What one round took, in the sender's process: a sender answers with ``as_answer``."""

    seconds: float
    cpu_seconds: float

    def as_answer(self) -> dict[str, Any]:
        """As JSON can hold it; ``Round(**answer)`` reads it again."""
        return asdict(self)


class Stopwatch:
    """Times the rounds of a sender."""

    def __init__(self) -> None:
        self.round = Round(0.0, 0.0)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time the block, on the wall and in CPU seconds of all threads of this process."""
        began, cpu_began = time.perf_counter(), time.process_time()
        yield
        cpu_seconds = time.process_time() - cpu_began
        self.round = Round(time.perf_counter() - began, cpu_seconds)


def smallest_payload() -> int:
    """Bytes of the smallest transaction that a ``TransactionSource`` can make: two addresses, a
    signature and a method's name take more than the parameters."""
    vector = load_vectors().transactions[0]
    size = len(vector.raw) - len(vector.params) + _NUMBER_BYTES
    TransactionSource(size)
    return size


class TransactionSource:
    """Real transactions with other parameters: each is a new one, all of the same size.

    Their signatures are of the right size and do not fit: who sends a transaction does not check
    it, who receives it is a sink.
    """

    def __init__(self, payload_bytes: int) -> None:
        """Raises MisuseError for a size below that of the fields beside the parameters."""
        vector = load_vectors().transactions[0]
        self._template = Transaction.parse_untrusted(vector.raw)
        self._made = 0
        self._params_bytes = payload_bytes - len(vector.raw) + len(vector.params)
        # The length of the parameters is written in front of them, in one byte or more.
        for _ in range(3):
            if self._params_bytes < _NUMBER_BYTES:
                break
            self._params_bytes += payload_bytes - len(self._make(0).raw)
        if self._params_bytes < _NUMBER_BYTES or len(self._make(0).raw) != payload_bytes:
            raise MisuseError(f"no transaction of exactly {payload_bytes} bytes can be made")

    def take(self, count: int) -> list[Transaction]:
        """So many that were never given before."""
        first = self._made
        self._made += count
        return [self._make(number) for number in range(first, first + count)]

    def _make(self, number: int) -> Transaction:
        template = self._template
        return Transaction.build(
            from_address=template.from_address,
            to_address=template.to_address,
            ref_block_number=template.ref_block_number,
            ref_block_prefix=template.ref_block_prefix,
            method_name=template.method_name,
            params=number.to_bytes(_NUMBER_BYTES, "big")
            + template.params.ljust(self._params_bytes, b"\0")[
                : self._params_bytes - _NUMBER_BYTES
            ],
            signature=template.signature,
        )
