"""The tcp transport's frames as an input."""

import struct
from random import Random

from aelf_p2p.contracts import Metadata
from aelf_p2p.core.errors import StatusCode
from aelf_p2p.transports.tcp import frames as f
from aelf_p2p.transports.tcp.frames import FrameKind, Opening
from aelf_p2p.wire.methods import METHODS, REQUEST_BY_STREAM
from tests.fuzz.feeding import MESSAGE
from tests.fuzz.mutation import Framing

_head = struct.Struct(">IBI")
METADATA: Metadata = {"public-key": "04ab", "session-id-bin": b"\1\2"}


def data(call_id: int, payload: bytes) -> bytes:
    """A BYTES frame."""
    return f.encode_header(FrameKind.BYTES, call_id, len(payload)) + payload


def opening(call_id: int, path: str = REQUEST_BY_STREAM.path) -> bytes:
    """A call with metadata and a deadline."""
    return f.encode_open(call_id, Opening(path, METADATA, 1.5, accepts_gzip=True))


def _made(rng: Random) -> bytes:
    call_id = rng.choice((1, 1, 2, 3, 4, 5, 0, 2**32 - 1))
    match rng.randrange(9):
        case 0:
            return f.encode_settings(rng.choice((0, 1, 65_535, 2**31 - 1, 2**31)), 100)
        case 1 | 2:
            return opening(call_id, rng.choice(["/nothing", *METHODS]))
        case 3:
            return data(call_id, MESSAGE * rng.randrange(40))
        case 4:
            return f.encode_header(FrameKind.END, call_id, 0)
        case 5:
            return f.encode_reply(call_id, gzip=rng.random() < 0.5)
        case 6:
            return f.encode_status(call_id, rng.choice(list(StatusCode)), "details: ü")
        case 7:
            return f.encode_credit(call_id, rng.choice((0, 1, 65_535, 2**31 - 1, 2**32 - 1)))
        case _:
            kinds = (
                f.encode_reset(call_id, rng.choice(list(f.ResetCause))),
                f.encode_goaway(rng.randrange(4), "why"),
            )
            return rng.choice(kinds)


mutate_frames = Framing(
    head_bytes=_head.size,
    length_of=lambda head: int.from_bytes(head[:4]),
    with_length=lambda head, length: struct.pack(">I", length) + head[4:],
    make=(_made,),
)
"""Behind the preface, which the targets put before it."""
