"""The frames of the ceiling, against h2 and the messages of our nodes."""

import h2.config
import h2.connection
import h2.events
import pytest

from aelf_p2p.core.envelope import envelope_body, request_prefix
from aelf_p2p.transports.grpc.frames import PREFACE
from aelf_p2p.transports.net.messages import frame_messages
from aelf_p2p.wire import MessageType, StreamMessage
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from benchmarks.acknowledger import cut_messages
from benchmarks.contenders import CEILING, CONTENDERS, connected
from benchmarks.fanout_frames import DataReader, data_frame_header, prepare
from benchmarks.greeter import Greeter
from benchmarks.stream_client import StreamClient
from benchmarks.workload import TransactionSource, Workload


def test_prepared_frames_are_whole_messages() -> None:
    greeter = Greeter()
    bodies = [
        envelope_body(MessageType.TRANSACTION_BROADCAST, greeter.new_request_id(), each.raw)
        for each in TransactionSource(300).take(5)
    ]
    prefix = request_prefix(greeter.public_key, bytes(16))
    before = prepare(prefix, len(bodies[0]))

    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    client.send_headers(
        1, [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")]
    )
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    server.receive_data(client.data_to_send())
    server.send_headers(1, [(":status", "200")])
    client.receive_data(server.data_to_send())

    received = bytearray()
    frames = 0
    for event in client.receive_data(before + before.join(bodies)):
        if isinstance(event, h2.events.DataReceived):
            received += event.data or b""
            frames += 1
    messages = cut_messages(received)
    assert frames == 5
    assert messages == [prefix + body for body in bodies]
    assert StreamMessage.FromString(messages[0]).meta["public-key"] == greeter.public_key.hex()


def test_what_does_not_go_into_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="16385 bytes do not go into one frame"):
        data_frame_header(16 * 1024 + 1)


@pytest.mark.parametrize("piece_bytes", [1, 13, 100_000])
def test_the_reader_finds_what_a_sink_sends(piece_bytes: int) -> None:
    client = StreamClient(REQUEST_BY_STREAM, authority="a", scheme="http", metadata={})
    content = frame_messages([b"one", b"two" * 10_000])
    client.send(content)
    data = client.data_to_send()
    reader = DataReader(len(PREFACE))
    for at in range(0, len(data), piece_bytes):
        reader.feed(data[at : at + piece_bytes])
    assert reader.content == content


def test_the_ceiling_and_its_sinks_go_through_a_round() -> None:
    workload = Workload(peers=3, payload_bytes=300, messages=130, tls=False)
    with connected(CEILING, CONTENDERS[CEILING], workload) as contender:
        contender.run_round()
    (rate,) = contender.rates
    assert rate > 0
    assert [row.figure for row in contender.rows()] == [
        "deliveries",
        "sender's CPU",
        "receivers' CPU",
    ]
