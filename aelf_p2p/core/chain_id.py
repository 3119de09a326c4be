"""Chain ids: an int32 on the wire, a name of four Base58 characters for people.

The name decodes to three bytes, which are the number's low ones, little-endian (``AELF`` is
9992731; AElf.Types/Helper/ChainHelper.cs). The names are ``2111`` to ``zzzz``: one that starts with
``1``, Base58's zero, would not come back from its number, and is refused.
"""

from aelf_p2p.core.base58 import b58decode_untrusted, b58encode
from aelf_p2p.core.errors import MalformedError, MisuseError

MAX_CHAIN_ID = 2**31 - 1
"""It is an int32, and never negative."""
_NAME_LENGTH = 4
_SIZE = 3


def chain_id_from_text_untrusted(text: str) -> int:
    """The number of a chain's name, 0 to 2**24 - 1. Raises MalformedError for any other text."""
    if len(text) != _NAME_LENGTH or text.startswith("1"):
        raise MalformedError(
            f"{text[:16]!a} is not a chain name: four base58 characters, no first 1"
        )
    return int.from_bytes(b58decode_untrusted(text), "little")


def chain_id_to_text(chain_id: int) -> str:
    """The four-character name of a chain id.

    Not every int32 has a name: raises MisuseError for one that :func:`chain_id_from_text_untrusted`
    never returns. Show a number that came from a peer as a number.
    """
    if 0 <= chain_id < 1 << 8 * _SIZE:
        text = b58encode(chain_id.to_bytes(_SIZE, "little"))
        if len(text) == _NAME_LENGTH and not text.startswith("1"):
            return text
    raise MisuseError(f"chain id {chain_id} has no name")


def describe_chain_id(chain_id: int) -> str:
    """A chain id for people: ``AELF (9992731)``, or the number alone when it has no name."""
    try:
        return f"{chain_id_to_text(chain_id)} ({chain_id})"
    except MisuseError:
        return str(chain_id)


def resolve_chain_id(chain_id: int | str) -> int:
    """The int32 of a chain id that the caller gave as number or text. Raises MisuseError."""
    if isinstance(chain_id, int):
        if not 0 <= chain_id <= MAX_CHAIN_ID:
            raise MisuseError(f"chain id {chain_id} is not between 0 and {MAX_CHAIN_ID}")
        return chain_id
    try:
        return chain_id_from_text_untrusted(chain_id)
    except MalformedError as exc:
        raise MisuseError(f"chain id: {exc}") from exc
