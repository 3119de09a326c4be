"""Sinks as peers of a real node, on each wire; and the bytes that they take apart by hand."""

from functools import partial

import pytest
import trio
from hyperframe.frame import DataFrame, PingFrame

from aelf_p2p import Identity, NetworkOptions, open_node
from aelf_p2p.core.broadcast import BroadcastKind
from aelf_p2p.transports.net.messages import frame_messages
from aelf_p2p.transports.tcp import frames as tcp
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from benchmarks.acknowledger import cut_messages
from benchmarks.sinks import Sink, connect
from benchmarks.stream_client import StreamClient, StreamEndedError
from benchmarks.tcp_client import TcpClient
from benchmarks.transports import make_transport
from benchmarks.workload import HOST, TransactionSource

OPTIONS = NetworkOptions(max_peers=0, max_queued_transactions=1000)


def _read_all(sink: Sink, count: int) -> None:
    while sink.acknowledger.transactions < count:
        sink.acknowledge()


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("wire", ["grpc", "tcp"])
async def test_a_node_takes_what_sinks_acknowledge(wire: str, tls: bool) -> None:
    count = 500
    async with open_node(
        identity=Identity.generate(),
        transport=make_transport(wire, OPTIONS, tls=tls),
        host=HOST,
        port=0,
        options=OPTIONS,
    ) as node:
        dial = partial(connect, node.endpoint.port, 2, tls=tls, wire=wire)
        sinks = await trio.to_thread.run_sync(dial)
        assert {sink.public_key for sink in sinks} == {p.info.public_key for p in node.peers()}
        for transaction in TransactionSource(300).take(count):
            assert node.network.broadcast_transaction(transaction).queued == 2
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for sink in sinks:
                    nursery.start_soon(trio.to_thread.run_sync, _read_all, sink, count)
            for peer in node.peers():
                while peer.statistics().acknowledged != {BroadcastKind.TRANSACTION: count}:
                    assert not peer.statistics().dropped
                    await trio.sleep(0.001)
        for sink in sinks:
            sink.socket.close()


def _http2_client() -> StreamClient:
    client = StreamClient(REQUEST_BY_STREAM, authority="a", scheme="http", metadata={})
    client.data_to_send()
    return client


def _data_frame(content: bytes) -> bytes:
    return DataFrame(1, content).serialize()


@pytest.mark.parametrize("piece_bytes", [1, 10, 1000, 100_000])
def test_messages_are_found_in_frames_however_they_are_cut(piece_bytes: int) -> None:
    """A frame for each message, as some servers send; and frames across messages."""
    messages = [b"%300d" % number for number in range(40)]
    framed = [frame_messages([message]) for message in messages]
    single = b"".join(_data_frame(each) for each in framed)
    joined = b"".join(framed)
    cut = b"".join(_data_frame(joined[at : at + 999]) for at in range(0, len(joined), 999))
    data = single + PingFrame(0, b"12345678").serialize() + cut + single
    client = _http2_client()
    for at in range(0, len(data), piece_bytes):
        client.receive(data[at : at + piece_bytes])
    assert cut_messages(client.unread) == messages * 3
    assert client.data_to_send() == PingFrame(0, b"12345678", flags=["ACK"]).serialize()


def test_the_end_of_the_call_is_no_message() -> None:
    with pytest.raises(StreamEndedError, match="ended the call"):
        _http2_client().receive(DataFrame(1, b"", flags=["END_STREAM"]).serialize())


def test_frames_of_the_tcp_transport_are_taken_apart_and_windows_kept() -> None:
    client = TcpClient(REQUEST_BY_STREAM, metadata={})
    assert client.data_to_send().startswith(tcp.PREFACE)
    messages = [b"%300d" % number for number in range(40)]
    content = frame_messages(messages)
    data = tcp.PREFACE + tcp.encode_settings(1000, 100) + tcp.encode_reply(1, gzip=False)
    for at in range(0, len(content), 777):
        piece = content[at : at + 777]
        data += tcp.encode_header(tcp.FrameKind.BYTES, 1, len(piece)) + piece
    for at in range(0, len(data), 50):
        client.receive(data[at : at + 50])
    assert cut_messages(client.unread) == messages
    client.send(bytes(1500))
    assert client.data_to_send() == tcp.encode_header(tcp.FrameKind.BYTES, 1, 1000) + bytes(1000)
    client.receive(tcp.encode_credit(1, 5000))
    assert client.data_to_send() == tcp.encode_header(tcp.FrameKind.BYTES, 1, 500) + bytes(500)
    with pytest.raises(StreamEndedError, match="GOAWAY"):
        client.receive(tcp.encode_goaway(0, "enough"))
