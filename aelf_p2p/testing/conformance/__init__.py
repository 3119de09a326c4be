"""The conformance suite: what every transport must show, ours and those that embedders write.

A :class:`TransportFixture` says how to get transports. With pytest::

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_my_transport(case):
        run_case(MyFixture(), case)

Without it, :func:`run_conformance` runs all cases and lists which passed. Nothing here needs
pytest. Both call ``trio.run``, so they cannot be called from inside it.
"""

from aelf_p2p.testing.conformance.fixture import MemoryFixture, SocketFixture, TransportFixture
from aelf_p2p.testing.conformance.harness import ConformanceCase, ConformanceError, Net
from aelf_p2p.testing.conformance.runner import CASES, CaseResult, run_case, run_conformance

__all__ = [
    "CASES",
    "CaseResult",
    "ConformanceCase",
    "ConformanceError",
    "MemoryFixture",
    "Net",
    "SocketFixture",
    "TransportFixture",
    "run_case",
    "run_conformance",
]
