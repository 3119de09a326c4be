"""A network of thirty nodes that was parted comes back to one chain, in virtual time."""

import pytest
import trio

from aelf_p2p.testing.determinism import run_deterministic
from aelf_p2p.testing.simulation import Simulation, open_simulation

NODES = 30
COMMON = 20


async def mine(network: Simulation, index: int, count: int) -> None:
    for _ in range(count):
        await network.mine(index)
        await trio.sleep(0.5)


def tips(network: Simulation) -> set[bytes]:
    return {place.store.status.best_hash for place in network.nodes}


def links_across(network: Simulation, side: set[int]) -> list[tuple[int, int]]:
    """The connections between one side and the other, by the nodes' indices."""
    by_key = {place.identity.public_key: place.index for place in network.nodes}
    links = {
        (place.index, by_key[peer.info.public_key])
        for place in network.nodes
        for peer in place.running.peers()
    }
    return sorted((one, other) for one, other in links if one in side and other not in side)


# Less than eight blocks on the shorter side: what is irreversible there, eight deep, never changes.
@pytest.mark.parametrize(("left", "right"), [(4, 6), (7, 40)], ids=["near the tip", "in bulk"])
def test_a_partition_heals_to_one_height(left: int, right: int) -> None:
    async def scenario() -> None:
        async with open_simulation(
            NODES, seed=left, latency_s=lambda rng: rng.uniform(0.02, 0.2)
        ) as network:
            await network.start_all(boot_nodes_each=6)
            for place in network.nodes:
                await place.running.wait_initialized()
            await mine(network, 0, COMMON)
            await trio.sleep(2)
            assert len(tips(network)) == 1
            # Odd and even ones; six boot nodes each keep either side connected.
            side = set(range(0, NODES, 2))
            cut = links_across(network, side)
            assert len(cut) >= 10
            network.hub.partition([[network.nodes[index].host for index in side]])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mine, network, 0, left)
                nursery.start_soon(mine, network, 1, right)
            await trio.sleep(2)
            heights = [place.height for place in network.nodes]
            assert heights == [COMMON + left, COMMON + right] * (NODES // 2)

            network.hub.heal()
            for one, other in cut:
                await network.nodes[one].running.connect(network.nodes[other].host)
            await network.wait_for_height(COMMON + right, timeout_s=20)
            assert {place.height for place in network.nodes} == {COMMON + right}
            assert tips(network) == {network.nodes[1].store.status.best_hash}
            # and they go on as one
            await network.mine(2)
            await network.wait_for_height(COMMON + right + 1, timeout_s=5)
            assert len(tips(network)) == 1
            assert not any(
                place.running._context.bans.active(place.wall_ns() / 1e9) for place in network.nodes
            )

    run_deterministic(scenario, seed=left)
