"""What the purerpc transport shows and what it does not, as docs/purerpc.md has it.

Run from the root of the repository, it runs all cases and prints their table; with ``--write`` it
puts that into the page::

    .venv-purerpc/bin/python -m tests.transports.purerpc.table --write
"""

import functools
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from aelf_p2p.core.single_error import each_error
from aelf_p2p.testing.conformance import CASES, ConformanceCase, SocketFixture, run_case
from aelf_p2p.transports.purerpc import PureRpcTransport
from tests.transports.purerpc.gaps import GAPS
from tests.transports.purerpc.hostile_cases import HOSTILE_CASES, LIMITS

PAGE = Path(__file__).parents[3] / "docs/purerpc.md"
BEGIN, END = "<!-- cases: begin -->\n", "<!-- cases: end -->\n"

ALL_CASES = (*CASES, *HOSTILE_CASES)
SECURE = SocketFixture(PureRpcTransport)
PLAIN = SocketFixture(partial(PureRpcTransport, insecure=True))
ATTACKED = SocketFixture(partial(PureRpcTransport, limits=LIMITS, insecure=True))


@functools.cache
def failure_of(case: ConformanceCase) -> str | None:
    """Why a case fails, on one line, or None; it is run once."""
    try:
        run_case(ATTACKED if case in HOSTILE_CASES else SECURE, case)
    except Exception as exc:  # whatever a transport does is a result of its case
        return "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in each_error(exc))
    return None


def table() -> str:
    """Every case, what it proves, and how it goes; of those that fail, why."""
    rows = ["| case | what it proves | purerpc |", "|---|---|---|"]
    for case in ALL_CASES:
        outcome = "passes"
        if failure_of(case) is not None:
            outcome = f"**fails**: {GAPS.get(case.name, 'nobody knows yet why')}"
        rows.append(f"| `{case.name}` | {case.proves} | {outcome} |")
    return "".join(f"{row}\n" for row in rows)


def parts(page: str) -> tuple[str, str, str]:
    """What stands before the table, the table, and what stands behind it, markers left out."""
    before, _, rest = page.partition(BEGIN)
    told, _, after = rest.partition(END)
    return before, told, after


def main(arguments: Sequence[str]) -> int:
    """Print the table, or write it; returns 1 when a case does not go as GAPS says."""
    if arguments == ["--write"]:
        before, _, after = parts(PAGE.read_text(encoding="utf-8"))
        PAGE.write_text(f"{before}{BEGIN}{table()}{END}{after}", encoding="utf-8")
    else:
        print(table(), end="")
    wrong = [case for case in ALL_CASES if (failure_of(case) is None) == (case.name in GAPS)]
    for case in wrong:
        print(f"{case}: {failure_of(case) or 'passes, and is listed as a gap'}", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
