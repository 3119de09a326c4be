"""Chain files: read, and written the same again."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from aelf_p2p.chain.block_maker import make_chain
from aelf_p2p.chain.chain_file import read_chain_file
from aelf_p2p.core.block import Block
from aelf_p2p.core.encoders import encode_varint
from aelf_p2p.core.errors import MalformedError, MisuseError
from aelf_p2p.core.identity import Identity
from tests.fuzz.mutation import AnyMutation, mutate_message

_DIRECTORY = tempfile.TemporaryDirectory(prefix="aelf-p2p-fuzz-")
_PATH = Path(_DIRECTORY.name) / "chain"


def _encode(blocks: list[Block]) -> bytes:
    return b"".join(encode_varint(len(raw)) + raw for raw in (block.encode() for block in blocks))


def seeds() -> Iterator[bytes]:
    miner = Identity.generate(Random(1))
    chain = list(
        make_chain(miner, 3, chain_id=1, transactions=[], last_time_ns=1_700_000_000 * 10**9)
    )
    yield _encode(chain)
    yield _encode(chain[:1])
    yield _encode(chain)[:-1]
    yield b""
    yield b"\xff\xff\xff\xff\x01"


def mutate(data: bytes, most: int, rng: Random, change: AnyMutation) -> bytes:
    """The first block anew, or anything."""
    if len(data) < 2 or rng.randrange(3) == 0:
        return change(data, most)
    begin = 2 if data[0] >= 0x80 else 1
    size = data[0] & 0x7F | (data[1] << 7 if begin == 2 else 0)
    block = mutate_message(data[begin : begin + size], most, rng, change)
    return (encode_varint(len(block)) + block + data[begin + size :])[:most]


def target(data: bytes) -> bool:
    _PATH.write_bytes(data)
    try:
        blocks = list(read_chain_file(_PATH))
    except (MalformedError, MisuseError):
        return False
    _PATH.write_bytes(_encode(blocks))
    assert list(read_chain_file(_PATH)) == blocks
    return True
