"""Announcements of blocks and of last irreversible blocks."""

from collections.abc import Iterator
from contextlib import suppress

from aelf_p2p.core.announcements import Announcement, LibAnnouncement
from aelf_p2p.core.errors import MalformedError
from tests.fuzz.mutation import mutate_message

mutate = mutate_message


def seeds() -> Iterator[bytes]:
    yield Announcement(bytes(range(32)), 7).encode()
    yield LibAnnouncement(bytes(32), 2**63 - 1).encode()
    yield Announcement(b"short", -1).encode()


def target(data: bytes) -> bool:
    with suppress(MalformedError):
        lib = LibAnnouncement.parse_untrusted(data)
        assert LibAnnouncement.parse_untrusted(lib.encode()) == lib
    try:
        announcement = Announcement.parse_untrusted(data)
    except MalformedError:
        return False
    assert len(announcement.block_hash) == 32
    assert announcement.height >= 1
    assert Announcement.parse_untrusted(announcement.encode()) == announcement
    return True
