"""Who may not connect, why, and until when."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from aelf_p2p.core.endpoint import Endpoint

_KEY = re.compile(r"(?i:04[0-9a-f]{128}|[0-9a-f]{64})")  # secp256k1, Ed25519


class BanReason(Enum):
    """Why a host or key is banned."""

    ABNORMAL_PEER = "it served a wrong block, or is on a wrong chain"
    INVALID_TRANSACTIONS = "it sent too many invalid transactions"
    OPERATOR = "the operator banned it"


@dataclass(frozen=True)
class Ban:
    """One ban. ``subject`` is a host, or a public key in hex; ``until`` is unix seconds."""

    subject: str
    reason: BanReason
    until: float


def ban_subject(subject: Endpoint | bytes | str) -> str:
    """How the list writes a public key (bytes, or hex text), or a host, of an endpoint or by name.

    Raises MisuseError for text that is neither.
    """
    if isinstance(subject, Endpoint):
        return subject.host
    if isinstance(subject, bytes):
        return subject.hex()
    if _KEY.fullmatch(subject):
        return subject.lower()
    return Endpoint(subject, 1).host


class BanList:
    """Bans by host or by public key. They extend, never shorten, until lifted or expired."""

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        self._bans: dict[str, Ban] = {}
        self._on_change = on_change  # expiring is no change

    def ban(self, subject: str, reason: BanReason, until: float) -> Ban:
        """Ban a host or a hex public key until a wall time; a longer ban already there stays."""
        held = self._bans.get(subject)
        if held is None or held.until < until:
            held = self._bans[subject] = Ban(subject, reason, until)
            self._on_change()
        return held

    def find(self, host: str, public_key: bytes | None, now: float) -> Ban | None:
        """The ban that keeps this host or key out at wall time ``now``, or None.

        Expired ones are forgotten here, so that the list holds no more than those in force.
        """
        self._forget_expired(now)
        held = self._bans.get(host)
        if held is None and public_key is not None:
            held = self._bans.get(public_key.hex())
        return held

    def lift(self, subject: str) -> bool:
        """End a ban early. False when there was none."""
        lifted = self._bans.pop(subject, None) is not None
        if lifted:
            self._on_change()
        return lifted

    def active(self, now: float) -> list[Ban]:
        """Bans in force, those that end first at the front; expired ones are forgotten."""
        self._forget_expired(now)
        return sorted(self._bans.values(), key=lambda ban: (ban.until, ban.subject))

    def _forget_expired(self, now: float) -> None:
        self._bans = {subject: ban for subject, ban in self._bans.items() if ban.until > now}
