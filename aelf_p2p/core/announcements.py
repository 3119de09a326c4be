"""What peers announce: a block that they executed, a last irreversible block."""

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from aelf_p2p.core.errors import MalformedError
from aelf_p2p.wire import BlockAnnouncement
from aelf_p2p.wire import LibAnnouncement as LibAnnouncementMessage

HASH_BYTES = 32


@dataclass(frozen=True)
class Announcement:
    """A peer's best chain ends with this block (32-byte hash)."""

    block_hash: bytes
    height: int

    def encode(self) -> bytes:
        """The bytes of a BlockAnnouncement."""
        message = BlockAnnouncement(block_height=self.height)
        message.block_hash.value = self.block_hash
        return message.SerializeToString()

    @classmethod
    def parse_untrusted(cls, data: bytes) -> "Announcement":
        """Parse a BlockAnnouncement; MalformedError without a 32-byte hash and a height ≥ 1."""
        try:
            message = BlockAnnouncement.FromString(data)
        except DecodeError as exc:
            raise MalformedError(f"not a BlockAnnouncement: {exc}") from exc
        _check_untrusted(message.block_hash.value, message.block_height)
        return cls(message.block_hash.value, message.block_height)


@dataclass(frozen=True)
class LibAnnouncement:
    """A peer's last irreversible block (32-byte hash)."""

    block_hash: bytes
    height: int

    def encode(self) -> bytes:
        """The bytes of a LibAnnouncement."""
        message = LibAnnouncementMessage(lib_height=self.height)
        message.lib_hash.value = self.block_hash
        return message.SerializeToString()

    @classmethod
    def parse_untrusted(cls, data: bytes) -> "LibAnnouncement":
        """Parse a LibAnnouncement; MalformedError without a 32-byte hash and a height ≥ 1."""
        try:
            message = LibAnnouncementMessage.FromString(data)
        except DecodeError as exc:
            raise MalformedError(f"not a LibAnnouncement: {exc}") from exc
        _check_untrusted(message.lib_hash.value, message.lib_height)
        return cls(message.lib_hash.value, message.lib_height)


def _check_untrusted(block_hash: bytes, height: int) -> None:
    if len(block_hash) != HASH_BYTES:
        raise MalformedError(f"an announced hash of {len(block_hash)} bytes")
    if height < 1:
        raise MalformedError(f"an announced height of {height}")
