"""Who may not connect, why, and until when."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


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
