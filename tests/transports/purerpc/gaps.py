"""What the purerpc transport does not show, by the name of the case, and why.

Each must fail, and each other case pass: ``test_cases.py`` runs them all, and ``table.py`` writes
them into docs/purerpc.md.
"""

from collections.abc import Mapping
from typing import Final

GAPS: Final[Mapping[str, str]] = {
    "a_flood_on_a_call_that_is_over_is_ended": (
        "h2 3 resets the call again for each frame that is not small, and tells nobody"
    ),
    "a_malformed_call_is_answered": (
        "purerpc reads no call of it that could be answered; we reset it, where purerpc ends the "
        "connection"
    ),
    "a_header_that_is_no_text_ends_its_call": (
        "purerpc has h2 decode headers, and that fails before the call is known; the connection "
        "ends"
    ),
}
