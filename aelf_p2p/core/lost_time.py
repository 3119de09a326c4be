"""How long peers kept the sync busy and gave nothing for it."""

from collections import OrderedDict

FORGIVEN = 0.05
"""The part of the time that passes by which what was lost is forgiven."""

MAX_KEYS = 1024


class LostTime:
    """Seconds that were lost over each key, less one for every twenty that passed since.

    Not one good deed forgives them, which could come between the others. Holds MAX_KEYS keys;
    beyond, the one that lost us time longest ago is forgotten.
    """

    def __init__(self) -> None:
        self._lost: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # seconds, and when

    def add(self, key: bytes, lost_s: float, now: float) -> float:
        """Count ``lost_s``, and tell how much it is together; ``now`` is monotonic seconds."""
        before_s, at = self._lost.pop(key, (0.0, now))
        together_s = max(0.0, before_s - FORGIVEN * (now - at)) + lost_s
        self._lost[key] = together_s, now
        if len(self._lost) > MAX_KEYS:
            self._lost.popitem(last=False)
        return together_s
