"""Our sender on purerpc takes part in the fan-out benchmark, whose own tests have no purerpc."""

from contextlib import ExitStack
from dataclasses import replace

import pytest

from benchmarks.contenders import CONTENDERS, ON_PURERPC, join
from benchmarks.environments import MAIN
from benchmarks.results import Note
from benchmarks.workload import Workload


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_every_delivery_of_a_round_arrives(tls: bool) -> None:
    workload = Workload(peers=2, payload_bytes=300, messages=40, tls=tls)
    here = replace(CONTENDERS[ON_PURERPC], packages=[], environment=MAIN)
    with ExitStack() as stack:
        contender = join(stack, ON_PURERPC, here, workload)
        assert not isinstance(contender, Note)
        contender.run_round()  # fails unless the receivers count all
        assert len(contender.rates) == 1
