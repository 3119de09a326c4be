"""How much the other side may send: on a connection, and on each of its calls (RFC 9113 §6.9).

Credit is given back in halves of a window, so that most of what is consumed costs no frame.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from aelf_p2p.core.options import KIB, MIB
from aelf_p2p.transports.grpc.http2 import Http2, still_open
from aelf_p2p.transports.net.limits import WireLimits

LEAST_WINDOW_BYTES = 64 * KIB - 1
"""HTTP/2's initial window, of a stream and of a connection; a stranger's stays that."""
TRUSTED_WINDOW_BYTES = 16 * MIB
"""Of a connection that somebody has shaken hands on; its calls are then held back one by one."""


@dataclass(slots=True)
class CallWindow:
    """Of one call; made by ``ReceiveWindows.open``."""

    call_id: int
    size: int
    """Bytes."""
    free_credit: int = 0
    """Consumed, and not yet told to the other side."""


class ReceiveWindows:
    """The connection's window, and what happens to the calls'.

    A stranger's connection gets credit back as its bytes are consumed; a trusted one as they
    arrive, so that a call that nobody reads does not hold up the others.
    """

    def __init__(self, h2: Http2, limits: WireLimits) -> None:
        self._h2 = h2
        self._limits = limits
        self._trusted = False
        self._free_credit = 0  # of the connection

    def open(self, call_id: int) -> CallWindow:
        """A call begins."""
        return CallWindow(call_id, self._limits.call_window_bytes)

    def arrived(self, credit: int) -> None:
        """Bytes of some call came."""
        if self._trusted:
            self._give_back(credit)

    def consumed(self, window: CallWindow | None, credit: int) -> bool:
        """They were read; ``window`` is that of their call while more may come on it. Returns
        whether the other side is told."""
        told = not self._trusted and self._give_back(credit)
        if window is None:
            return told
        window.free_credit += credit
        if window.free_credit < window.size // 2:
            return told
        self._tell(window)
        return True

    def trust(self, window: CallWindow | None, windows: Iterable[CallWindow]) -> None:
        """Widen the connection, and a call while more may come on it; ``windows`` are those of all
        open calls, which together grow by ``growth_bytes`` at most."""
        if not self._trusted:
            self._trusted = True
            # What strangers' calls left unread is not told again when it is consumed.
            self._give_back(TRUSTED_WINDOW_BYTES)
        if window is None:
            return
        grown = sum(each.size - self._limits.call_window_bytes for each in windows)
        growth = self._limits.trusted_call_window_bytes - window.size
        growth = min(growth, self._limits.growth_bytes - grown)
        if growth > 0:
            window.size += growth
            window.free_credit += growth
            self._tell(window)

    def _give_back(self, credit: int) -> bool:
        """Credit of the connection. Returns whether the other side is told."""
        self._free_credit += credit
        window = TRUSTED_WINDOW_BYTES if self._trusted else LEAST_WINDOW_BYTES
        if self._free_credit < window // 2:
            return False
        self._h2.increment_flow_control_window(self._free_credit)
        self._free_credit = 0
        return True

    def _tell(self, window: CallWindow) -> None:
        with still_open():
            self._h2.increment_flow_control_window(window.free_credit, window.call_id)
        window.free_credit = 0
