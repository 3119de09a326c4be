"""Who may not connect, why, and until when."""

import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from aelf_p2p.core.endpoint import Endpoint, counted_host

MAX_BANS = 4096

_KEY = re.compile(r"(?i:04[0-9a-f]{128}|[0-9a-f]{64})")  # secp256k1, Ed25519


class BanReason(Enum):
    """Why a host or key is banned."""

    ABNORMAL_PEER = "it served a wrong block, or is on a wrong chain"
    INVALID_TRANSACTIONS = "it sent too many invalid transactions"
    MISBEHAVIOUR = "it misbehaved again and again"
    OPERATOR = "the operator banned it"


@dataclass(frozen=True)
class Ban:
    """One ban. ``subject`` is as ``ban_subject`` writes it; ``until`` is unix seconds."""

    subject: str
    reason: BanReason
    until: float


def ban_subject(subject: Endpoint | bytes | str) -> str:
    """How the list writes a public key (bytes, or hex text), or a host, of an endpoint or by name:
    the key in hex, or what ``counted_host`` makes of the host. The /64 network of IPv6 addresses
    that this gives may be given too.

    Raises MisuseError for text that is neither.
    """
    if isinstance(subject, bytes):
        return subject.hex()
    if isinstance(subject, str):
        if _KEY.fullmatch(subject):
            return subject.lower()
        subject = Endpoint(subject.removesuffix("/64") if ":" in subject else subject, 1)
    return counted_host(subject.host)


class BanList:
    """Bans by host or by public key. They extend, never shorten, until lifted or expired.

    A host is what ``counted_host`` says: of IPv6 addresses the whole /64 is banned. Of more than
    ``capacity`` bans, those that are not the operator's go, the one that ends first before others.
    The operator's always find a place, so that a list which is full of them takes no others.
    """

    def __init__(
        self, on_change: Callable[[], None] = lambda: None, *, capacity: int = MAX_BANS
    ) -> None:
        self._capacity = capacity
        self._bans: dict[str, Ban] = {}
        self._ends: list[tuple[float, str]] = []  # until, subject of each; those that end first
        self._on_change = on_change  # expiring is no change

    def ban(self, subject: str, reason: BanReason, until: float) -> Ban:
        """Ban a host or a hex public key until a wall time; the ban that follows.

        One that is there already goes on at least as long, and stays the operator's. The ban is
        given also when it found no place in a full list.
        """
        subject = counted_host(subject)
        ban = Ban(subject, reason, until)
        held = self._bans.get(subject)
        if held is not None:
            longer = held if held.until >= until else ban
            is_operators = BanReason.OPERATOR in (held.reason, reason)
            ban = Ban(subject, BanReason.OPERATOR if is_operators else longer.reason, longer.until)
            if ban == held:
                return held
            self._remove(held)
        self._bans[subject] = ban
        insort(self._ends, (ban.until, subject))
        if len(self._bans) > self._capacity:
            self._make_room()
        self._on_change()
        return ban

    def find(self, host: str, public_key: bytes | None, now: float) -> Ban | None:
        """The ban that keeps this host or key out at wall time ``now``, or None.

        Expired ones are forgotten here, so that the list holds no more than those in force.
        """
        self._forget_expired(now)
        held = self._bans.get(counted_host(host))
        if held is None and public_key is not None:
            held = self._bans.get(public_key.hex())
        return held

    def lift(self, subject: str) -> bool:
        """End a ban early. False when there was none."""
        held = self._bans.get(counted_host(subject))
        if held is None:
            return False
        self._remove(held)
        self._on_change()
        return True

    def active(self, now: float) -> list[Ban]:
        """Bans in force, those that end first at the front; expired ones are forgotten."""
        self._forget_expired(now)
        return [self._bans[subject] for _, subject in self._ends]

    def _forget_expired(self, now: float) -> None:
        expired = bisect_right(self._ends, now, key=lambda end: end[0])
        for _, subject in self._ends[:expired]:
            del self._bans[subject]
        del self._ends[:expired]

    def _make_room(self) -> None:
        for _, subject in self._ends:
            if self._bans[subject].reason is not BanReason.OPERATOR:
                self._remove(self._bans[subject])
                return

    def _remove(self, ban: Ban) -> None:
        del self._bans[ban.subject]
        del self._ends[bisect_left(self._ends, (ban.until, ban.subject))]
