"""open_node: what a node is given, what leaves it, and how it ends."""

import random

import pytest
import trio

import aelf_p2p
from aelf_p2p import (
    ConnectionLostError,
    EventsMissed,
    Identity,
    MemoryHub,
    MisuseError,
    NetworkInitialized,
    NetworkOptions,
    Node,
    PeerConnected,
    PeerDisconnected,
    open_node,
)
from aelf_p2p.core.errors import ClosedByUsError
from aelf_p2p.core.peer_info import CloseReason

RNG = random.Random(4)
ALICE, BOB = Identity.generate(RNG), Identity.generate(RNG)


def test_the_root_exports_what_it_lists_and_nothing_else() -> None:
    public = {
        name
        for name, value in vars(aelf_p2p).items()
        if not name.startswith("_") and not isinstance(value, type(pytest))
    }
    assert public == set(aelf_p2p.__all__)
    assert aelf_p2p.__all__ == sorted(aelf_p2p.__all__, key=lambda name: (name[0].islower(), name))


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("chain_id", "AELF0", "chain id: 'AELF0'"),
        ("node_version", "1", "node version: '1' is not a version"),
        ("node_version", "1.4.0.0.0", r"node version: '1\.4\.0\.0\.0' is not a version"),
        ("boot_nodes", ["ok.example:6800", "a:b:c"], "boot node 'a:b:c'"),
        ("ntp_server", "a:b:c", "NTP server 'a:b:c'"),
        ("ntp_server", "", "NTP server ''"),
    ],
)
async def test_wrong_arguments_are_named(argument: str, value: object, message: str) -> None:
    with pytest.raises(MisuseError, match=message):
        async with open_node(
            identity=ALICE,
            transport=MemoryHub().transport("alice"),
            **{argument: value},  # type: ignore[arg-type]
        ):
            pytest.fail("it opened")


async def test_the_oldest_version_that_has_a_stream(autojump_clock: trio.abc.Clock) -> None:
    hub = MemoryHub()
    async with (
        open_node(identity=ALICE, transport=hub.transport("alice"), node_version="1.4.0.0"),
        open_node(identity=BOB, transport=hub.transport("bob")) as bob,
    ):
        peer = await bob.connect("alice")
        assert peer.info.node_version == "1.4.0.0"


async def test_a_taken_port_is_one_plain_error(autojump_clock: trio.abc.Clock) -> None:
    hub = MemoryHub()
    async with open_node(identity=ALICE, transport=hub.transport("here")):
        with pytest.raises(MisuseError, match="here:6800"):
            async with open_node(identity=BOB, transport=hub.transport("here")):
                pytest.fail("it opened")


async def test_an_error_of_the_body_leaves_as_itself(autojump_clock: trio.abc.Clock) -> None:
    cause = KeyError("cause")
    with pytest.raises(ValueError, match="from the body") as caught:
        async with open_node(identity=ALICE, transport=MemoryHub().transport("alice")):
            raise ValueError("from the body") from cause
    assert caught.value.__cause__ is cause


async def test_an_error_group_of_the_body_stays_a_group(autojump_clock: trio.abc.Clock) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with open_node(identity=ALICE, transport=MemoryHub().transport("alice")):
            raise ExceptionGroup("the body's own", [ValueError("one")])
    assert caught.value.message == "the body's own"


async def test_connecting_to_nobody_is_an_error_and_nothing_more(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_node(identity=ALICE, transport=MemoryHub().transport("alice")) as node:
        with pytest.raises(ConnectionLostError, match="bob:6800"):
            await node.connect("bob")
        assert node.peers() == []


async def test_a_boot_node_that_is_down_does_not_stop_the_node(
    autojump_clock: trio.abc.Clock,
) -> None:
    hub = MemoryHub()
    async with (
        open_node(identity=BOB, transport=hub.transport("bob")),
        open_node(
            identity=ALICE, transport=hub.transport("alice"), boot_nodes=["nobody", "bob"]
        ) as node,
    ):
        with node.subscribe() as events:
            await node.wait_initialized()
            seen = [await anext(events), await anext(events)]
    assert isinstance(seen[0], PeerConnected)
    assert seen[0].peer.public_key == BOB.public_key
    assert seen[1] == NetworkInitialized(connected=1)


async def test_leaving_says_goodbye_and_leaves_nothing_behind(
    autojump_clock: trio.abc.Clock,
) -> None:
    hub = MemoryHub()
    async with open_node(identity=ALICE, transport=hub.transport("alice")) as alice:
        with alice.subscribe() as events:
            async with open_node(
                identity=BOB, transport=hub.transport("bob"), boot_nodes=["alice"]
            ) as bob:
                await bob.wait_initialized()
                assert isinstance(await anext(events), NetworkInitialized)
                assert isinstance(await anext(events), PeerConnected)
                began = trio.current_time()
            assert trio.current_time() - began <= 1
            gone = await anext(events)
            assert isinstance(gone, PeerDisconnected)
            assert gone.reason is CloseReason.DISCONNECTED_BY_PEER
        assert alice.peers() == []
        assert not hub.connections
    assert not hub.listeners
    with pytest.raises(ClosedByUsError):
        await bob.connect("alice")


async def test_a_closed_node_ends_its_subscriptions(autojump_clock: trio.abc.Clock) -> None:
    async with (
        trio.open_nursery() as nursery,
        open_node(identity=ALICE, transport=MemoryHub().transport("alice")) as node,
    ):

        async def subscriber(task_status: trio.TaskStatus[None]) -> None:
            with node.subscribe() as events:
                task_status.started()
                assert [event async for event in events] == [NetworkInitialized(0)]

        await nursery.start(subscriber)
        await node.wait_initialized()


async def test_a_subscriber_that_never_reads_stops_nobody(autojump_clock: trio.abc.Clock) -> None:
    hub = MemoryHub()
    options = NetworkOptions(max_event_backlog=2)
    async with open_node(
        identity=ALICE, transport=hub.transport("alice"), options=options
    ) as alice:
        with alice.subscribe() as asleep:
            await alice.wait_initialized()
            for _ in range(3):  # two events each time: connected, disconnected
                async with open_node(identity=BOB, transport=hub.transport("bob")) as bob:
                    await bob.connect("alice")
            await trio.sleep(1)
            seen = [await anext(asleep) for _ in range(3)]
    assert isinstance(seen[0], NetworkInitialized)
    assert isinstance(seen[1], PeerConnected)
    assert seen[2] == EventsMissed(5)


async def test_an_operator_removes_a_peer(autojump_clock: trio.abc.Clock) -> None:
    hub = MemoryHub()
    async with (
        open_node(identity=ALICE, transport=hub.transport("alice")) as alice,
        open_node(identity=BOB, transport=hub.transport("bob")) as bob,
    ):
        peer = await bob.connect("alice")
        assert bob.peer(ALICE.public_key) is peer
        assert await bob.disconnect(ALICE.public_key)
        assert peer.close_reason is CloseReason.REMOVED
        assert bob.peers() == []
        assert not await bob.disconnect(ALICE.public_key)
        await trio.sleep(1)
        assert alice.peers() == []


async def test_all_peers_at_once_are_left_within_two_seconds(
    autojump_clock: trio.abc.Clock,
) -> None:
    """A peer that reads nothing holds the goodbye up, and no other's."""
    hub = MemoryHub()
    many = NetworkOptions(max_peers=0)
    nodes: list[Node] = []
    async with trio.open_nursery() as nursery:
        async with open_node(
            identity=ALICE, transport=hub.transport("alice"), options=many
        ) as alice:

            async def guest(index: int, task_status: trio.TaskStatus[Node]) -> None:
                identity = Identity.generate(RNG)
                async with open_node(
                    identity=identity, transport=hub.transport(f"guest{index}")
                ) as node:
                    await node.connect("alice")
                    task_status.started(node)
                    await trio.sleep_forever()

            for index in range(30):
                nodes.append(await nursery.start(guest, index))
            assert len(alice.peers()) == 30
            began = trio.current_time()
        assert trio.current_time() - began <= 2
        await trio.sleep(1)
        assert [node.peers() for node in nodes] == [[]] * 30
        nursery.cancel_scope.cancel()
