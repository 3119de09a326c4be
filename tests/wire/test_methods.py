"""The paths that real nodes serve, against our constants and our .proto."""

import dataclasses

import pytest

from aelf_p2p.wire import methods, peer_service_pb2
from aelf_p2p.wire.methods import BROADCAST_STREAMS, METHODS, Method

# path, request, client streams, reply, server streams: as C# nodes have them
AELF_METHODS = [
    ("/PeerService/Ping", "PingRequest", False, "PongReply", False),
    ("/PeerService/CheckHealth", "HealthCheckRequest", False, "HealthCheckReply", False),
    ("/PeerService/DoHandshake", "HandshakeRequest", False, "HandshakeReply", False),
    ("/PeerService/ConfirmHandshake", "ConfirmHandshakeRequest", False, "VoidReply", False),
    ("/PeerService/RequestBlock", "BlockRequest", False, "BlockReply", False),
    ("/PeerService/RequestBlocks", "BlocksRequest", False, "BlockList", False),
    ("/PeerService/GetNodes", "NodesRequest", False, "NodeList", False),
    ("/PeerService/Disconnect", "DisconnectReason", False, "VoidReply", False),
    ("/PeerService/BlockBroadcastStream", "BlockWithTransactions", True, "VoidReply", False),
    ("/PeerService/TransactionBroadcastStream", "Transaction", True, "VoidReply", False),
    ("/PeerService/AnnouncementBroadcastStream", "BlockAnnouncement", True, "VoidReply", False),
    ("/PeerService/LibAnnouncementBroadcastStream", "LibAnnouncement", True, "VoidReply", False),
    ("/PeerService/RequestByStream", "StreamMessage", True, "StreamMessage", True),
]

SERVICE = peer_service_pb2.DESCRIPTOR.services_by_name["PeerService"]


def test_the_constants_are_aelfs_methods() -> None:
    assert [
        (method.path, method.client_streaming, method.server_streaming)
        for method in METHODS.values()
    ] == [
        (path, client_streams, server_streams)
        for path, _, client_streams, _, server_streams in AELF_METHODS
    ]


def test_the_descriptor_has_aelfs_methods() -> None:
    found = {
        (
            f"/{SERVICE.name}/{method.name}",
            method.input_type.name,
            method.client_streaming,
            method.output_type.name,
            method.server_streaming,
        )
        for method in SERVICE.methods
    }
    assert found == set(AELF_METHODS)


def test_the_constants_match_the_descriptor() -> None:
    described = {
        Method(
            f"/{SERVICE.name}/{method.name}",
            method.name,
            method.client_streaming,
            method.server_streaming,
        )
        for method in SERVICE.methods
    }
    plain = {dataclasses.replace(method, compressed_reply=False) for method in METHODS.values()}
    assert plain == described


def test_aelfs_servers_compress_one_reply() -> None:
    compressed = [method.name for method in METHODS.values() if method.compressed_reply]
    assert compressed == ["RequestBlocks"]  # protocol §3.4


def test_each_broadcast_stream_has_its_type_on_the_stream() -> None:
    # AElf's numbers (protocol §2); the stream's messages are those of the type
    assert {method.name: number for method, number in BROADCAST_STREAMS.items()} == {
        "BlockBroadcastStream": 8,
        "TransactionBroadcastStream": 9,
        "AnnouncementBroadcastStream": 10,
        "LibAnnouncementBroadcastStream": 11,
    }


def test_every_constant_is_listed_by_its_path() -> None:
    constants = [value for value in vars(methods).values() if isinstance(value, Method)]
    assert list(METHODS.items()) == [(method.path, method) for method in constants]


def test_methods_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        methods.PING.path = "/other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        METHODS["/other"] = methods.PING  # type: ignore[index]
    with pytest.raises(TypeError):
        BROADCAST_STREAMS[methods.PING] = 8  # type: ignore[index]
