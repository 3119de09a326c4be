"""Pings: what rows and ratios are made of them; and both ends of ours and of the rival's."""

import asyncio

import pytest

from benchmarks import latency_grpc_aio, latency_ours
from benchmarks.latency import rows

BLOCKS = [[1.0, 2.0, 9.0], [2.0, 3.0, 4.0]]


def test_medians_are_of_each_block_and_tails_of_all() -> None:
    found = {row.figure: row for row in rows("ours", BLOCKS, {"way": "stream"})}
    assert found["ping p50"].rounds == (2.0, 3.0)
    assert found["ping"].rounds == (4.0, 3.0)
    assert found["ping"].samples == (1.0, 2.0, 9.0, 2.0, 3.0, 4.0)
    assert found["ping p99"].rounds == found["ping p99.9"].rounds == (9.0,)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("transport", ["grpc", "tcp"])
async def test_our_nodes_ping_each_other_both_ways(transport: str, tls: bool) -> None:
    async with (
        latency_ours.answering(transport, tls=tls) as port,
        latency_ours.pinging(transport, port, tls=tls) as pings,
    ):
        for ping in pings.values():
            taken_ns = await ping(3)
            assert len(taken_ns) == 3
            assert min(taken_ns) > 0


@pytest.mark.parametrize("tls", [False, True])
def test_the_rival_pings_both_ways(tls: bool) -> None:
    async def ping() -> list[list[int]]:
        async with (
            latency_grpc_aio.answering(tls=tls) as port,
            latency_grpc_aio.pinging(port, tls=tls) as pings,
        ):
            return [await each(3) for each in pings.values()]

    assert [len(taken_ns) for taken_ns in asyncio.run(ping())] == [3, 3]
