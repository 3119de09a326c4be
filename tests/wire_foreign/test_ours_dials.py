"""Our node dials a foreign one, and what that one sees of it."""

import network_types_pb2 as types
import peer_service_pb2 as service
import pytest

from aelf_p2p import CloseReason, Endpoint, HandshakeRefusedError, NetworkOptions, PeerConnected
from tests.wire_foreign.foreign_handshake import judge
from tests.wire_foreign.foreign_key import ForeignKey
from tests.wire_foreign.support import open_foreign, open_ours, ours_dials, wait_event

REFUSALS = [error for error in types.HandshakeError.values() if error != types.HANDSHAKE_OK]


async def test_what_the_acceptor_sees() -> None:
    async with (
        open_foreign() as foreign,
        open_ours() as node,
        ours_dials(node, foreign) as connection,
    ):
        connected = await wait_event(connection.events, PeerConnected)
        assert connected.peer == connection.peer.info
        assert connected.peer.public_key == foreign.key.public
        assert connected.peer.endpoint == Endpoint("127.0.0.1", foreign.port)
        assert not connected.peer.inbound

        do_handshake, by_stream = foreign.server.calls.items
        key = node.public_key.hex()
        assert do_handshake.method == "DoHandshake"
        assert do_handshake.metadata["public-key"] == key
        assert do_handshake.time_left_s is not None
        assert 0 < do_handshake.time_left_s <= 6
        assert by_stream.method == "RequestByStream"
        assert by_stream.metadata["public-key"] == key
        assert by_stream.time_left_s is None

        hand_shake, confirm = connection.stream.requests.wait_for(lambda request: True, 2)
        assert hand_shake.message_type == service.HAND_SHAKE
        assert hand_shake.meta["public-key"] == key
        assert "session-id-bin" not in hand_shake.meta
        asked = types.HandshakeRequest.FromString(hand_shake.message).handshake
        assert judge(asked, foreign.key) == types.HANDSHAKE_OK
        assert asked.session_id == connection.stream.session_out
        assert confirm.message_type == service.CONFIRM_HAND_SHAKE
        assert confirm.meta["public-key"] == key
        assert connection.stream.session_in is not None
        assert confirm.meta["session-id-bin"] == connection.stream.session_in.hex()
        assert confirm.request_id != hand_shake.request_id


@pytest.mark.parametrize("code", REFUSALS, ids=types.HandshakeError.Name)
async def test_the_refusal_of_a_handshake_is_told_by_its_code(code: types.HandshakeError) -> None:
    async with open_foreign() as foreign, open_ours() as node:
        foreign.refuse_handshake = code
        with pytest.raises(HandshakeRefusedError) as caught:
            await node.connect(f"127.0.0.1:{foreign.port}")
        assert caught.value.code == code
        assert [call.method for call in foreign.server.calls.items] == ["DoHandshake"]
        assert node.peer(foreign.key.public) is None


@pytest.mark.parametrize("code", REFUSALS, ids=types.HandshakeError.Name)
async def test_so_is_a_refusal_on_the_stream(code: types.HandshakeError) -> None:
    # At REPEATED_CONNECTION our node waits so long for the connection that the other one keeps.
    options = NetworkOptions(stream_handshake_timeout_s=0.5)
    async with open_foreign() as foreign, open_ours(options=options) as node:
        foreign.refuse_stream = code
        with pytest.raises(HandshakeRefusedError) as caught:
            await node.connect(f"127.0.0.1:{foreign.port}")
        assert caught.value.code == code
        assert node.peer(foreign.key.public) is None


async def test_a_node_that_is_dialed_twice_is_one_peer() -> None:
    async with (
        open_foreign() as foreign,
        open_ours() as node,
        ours_dials(node, foreign) as connection,
    ):
        assert await node.connect(f"127.0.0.1:{foreign.port}") is connection.peer
        assert connection.peer.close_reason is None


async def test_two_foreign_nodes_of_one_key_are_one_peer() -> None:
    """The second is reached at another endpoint; the first connection stays."""
    key = ForeignKey()
    async with (
        open_foreign(key=key) as foreign,
        open_foreign(key=key) as double,
        open_ours() as node,
        ours_dials(node, foreign) as connection,
    ):
        assert await node.connect(f"127.0.0.1:{double.port}") is connection.peer
        assert double.server.streams.items == []
        assert await node.disconnect(key.public)
        assert connection.peer.close_reason is CloseReason.REMOVED
