"""Announcements of blocks and of last irreversible blocks."""

import network_types_pb2
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.announcements import Announcement, LibAnnouncement
from aelf_p2p.core.errors import MalformedError
from aelf_p2p.testing.vectors import load_vectors

hashes = st.binary(min_size=32, max_size=32)
heights = st.integers(1, 2**63 - 1)
Kind = type[Announcement] | type[LibAnnouncement]
both = pytest.mark.parametrize("kind", [Announcement, LibAnnouncement])


def encode(kind: Kind, block_hash: bytes, height: int) -> bytes:
    """The bytes that AElf's own schema gives."""
    if kind is Announcement:
        block = network_types_pb2.BlockAnnouncement(block_height=height)
        block.block_hash.value = block_hash
        return block.SerializeToString()
    lib = network_types_pb2.LibAnnouncement(lib_height=height)
    lib.lib_hash.value = block_hash
    return lib.SerializeToString()


@both
@given(block_hash=hashes, height=heights)
def test_round_trip(kind: Kind, block_hash: bytes, height: int) -> None:
    announcement = kind(block_hash, height)
    assert announcement.encode() == encode(kind, block_hash, height)
    parsed = kind.parse_untrusted(encode(kind, block_hash, height))
    assert parsed == announcement
    assert (parsed.block_hash, parsed.height) == (block_hash, height)


@both
def test_a_real_block(kind: Kind) -> None:
    block = load_vectors().blocks[0]
    data = kind(block.block_hash, block.height).encode()
    assert data.hex() == f"0a220a20{block.block_hash.hex()}1061"  # height 97


@both
@pytest.mark.parametrize("size", [0, 1, 31, 33, 64, 100_000])
def test_a_hash_has_32_bytes(kind: Kind, size: int) -> None:
    with pytest.raises(MalformedError, match=f"hash of {size} bytes"):
        kind.parse_untrusted(encode(kind, bytes(size), 5))


@both
@pytest.mark.parametrize("height", [0, -1, -(2**63)])
def test_a_height_is_at_least_one(kind: Kind, height: int) -> None:
    with pytest.raises(MalformedError, match=f"height of {height}"):
        kind.parse_untrusted(encode(kind, bytes(32), height))


@both
@pytest.mark.parametrize("data", [b"", b"\x10\x05", b"\x0a\x05ab", b"\xff", b"\x0a\x03\x0a\x05x"])
def test_damaged(kind: Kind, data: bytes) -> None:
    with pytest.raises(MalformedError):
        kind.parse_untrusted(data)


@both
@given(data=st.binary(max_size=60))
def test_random_bytes(kind: Kind, data: bytes) -> None:
    try:
        parsed = kind.parse_untrusted(data)
    except MalformedError:
        return
    assert len(parsed.block_hash) == 32
    assert parsed.height >= 1


def test_an_undecodable_one_names_its_cause() -> None:
    with pytest.raises(MalformedError, match="not a BlockAnnouncement") as block:
        Announcement.parse_untrusted(b"\xff")
    with pytest.raises(MalformedError, match="not a LibAnnouncement") as lib:
        LibAnnouncement.parse_untrusted(b"\xff")
    assert isinstance(block.value.__cause__, DecodeError)
    assert isinstance(lib.value.__cause__, DecodeError)
