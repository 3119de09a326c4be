"""Node versions as .NET writes and compares them."""

import re
from dataclasses import dataclass
from typing import Self

from aelf_p2p.core.errors import MalformedError, MisuseError

_ABSENT = -1
_MAX_PART = 2**31 - 1
_MAX_LENGTH = len(f"{_MAX_PART}.") * 4 - 1
_TEXT = re.compile(r"[0-9]+(?:\.[0-9]+){1,3}")


@dataclass(frozen=True, order=True, slots=True)
class NodeVersion:
    """Two to four numbers, each 0 to 2**31 - 1; an absent one is -1, and so below 0.

    ``1.4`` and ``1.4.0`` are therefore below ``1.4.0.0`` and not equal to it, as in .NET's
    ``System.Version``. Raises MisuseError for numbers out of range or a gap between them.
    """

    major: int
    minor: int
    build: int = _ABSENT
    revision: int = _ABSENT

    def __post_init__(self) -> None:
        present = self._present()
        out_of_range = any(not 0 <= part <= _MAX_PART for part in present)
        if out_of_range or (self.build == _ABSENT and self.revision != _ABSENT):
            raise MisuseError(f"not a version: {self.major, self.minor, self.build, self.revision}")

    @classmethod
    def parse_untrusted(cls, text: str) -> Self:
        """The version that ``text`` writes, as in ``1.12.3.0``; leading zeros are dropped.

        .NET also takes blanks and a ``+`` around each number; no node writes them, and here they
        are malformed. Raises MalformedError.
        """
        if len(text) > _MAX_LENGTH or not _TEXT.fullmatch(text):
            raise MalformedError(f"{text[:_MAX_LENGTH]!a} is not a version of two to four numbers")
        parts = [int(part) for part in text.split(".")]
        if max(parts) > _MAX_PART:
            raise MalformedError(f"a number in version {text} is over {_MAX_PART}")
        return cls(*parts)

    def __str__(self) -> str:
        return ".".join(str(part) for part in self._present())

    def _present(self) -> list[int]:
        optional = (part for part in (self.build, self.revision) if part != _ABSENT)
        return [self.major, self.minor, *optional]


STREAM_VERSION = NodeVersion(1, 4, 0, 0)
"""From this version on a node speaks over one stream a pair (protocol §3.1)."""


def own_version(text: str) -> str:
    """The version text of a node of ours, as handshakes say it. Raises MisuseError for a malformed
    one. Below ``STREAM_VERSION`` it makes the node one of the old kind."""
    try:
        return str(NodeVersion.parse_untrusted(text))
    except MalformedError as error:
        raise MisuseError(f"node version: {error}") from error


def uses_stream(text: str) -> bool:
    """Whether a node of this version text speaks over a stream. Malformed text counts as old."""
    try:
        return NodeVersion.parse_untrusted(text) >= STREAM_VERSION
    except MalformedError:
        return False
