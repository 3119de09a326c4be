"""purerpc where it is not installed; its own tests have an environment of their own.

What is said of peers that mean no good is said by cases, so our grpc transport must pass them all.
"""

import subprocess
import sys
from functools import partial

import pytest

from aelf_p2p import GrpcTransport, MisuseError, PureRpcTransport
from aelf_p2p.testing.conformance import ConformanceCase, SocketFixture, run_case
from tests.transports.purerpc.hostile_cases import HOSTILE_CASES, LIMITS

WHY = r"the purerpc transport needs the package purerpc: install aelf-p2p\[purerpc\]"


def test_without_purerpc_it_says_what_to_install() -> None:
    with pytest.raises(MisuseError, match=WHY):
        PureRpcTransport()


def test_nothing_else_needs_it() -> None:
    program = "import sys, aelf_p2p, aelf_p2p.ops.cli; sys.exit('purerpc' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("case", HOSTILE_CASES, ids=str)
def test_our_grpc_transport_shows_what_purerpc_is_asked_for(case: ConformanceCase) -> None:
    run_case(SocketFixture(partial(GrpcTransport, limits=LIMITS, insecure=True)), case)
