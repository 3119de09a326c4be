"""DATA frames by hand, against h2's own: the same bytes, the same windows, the same refusals."""

import pytest
from h2.exceptions import FlowControlError, H2Error
from hyperframe.frame import DataFrame
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.transports.grpc.http2 import Http2
from aelf_p2p.transports.net.limits import WireLimits

REQUEST = [(b":method", b"POST"), (b":path", b"/"), (b":scheme", b"http"), (b":authority", b"a")]
SIZES = st.lists(st.integers(1, 40_000), max_size=4)


class Pair:
    """A client and a server that know of one stream."""

    def __init__(self, request: list[tuple[bytes, bytes]] | None = None) -> None:
        self.client = Http2(WireLimits(), is_client=True)
        self.server = Http2(WireLimits(), is_client=False)
        self.client.send_headers(1, request or REQUEST)
        self.talk()

    def talk(self) -> None:
        while (asked := self.client.data_to_send()) + (said := self.server.data_to_send()):
            self.server.receive_data(asked)
            self.client.receive_data(said)

    def windows(self) -> list[int]:
        """What the client may send, and what the server would take: of the stream, of all."""
        return [
            self.client.local_flow_control_window(1),
            self.client.outbound_flow_control_window,
            self.server.remote_flow_control_window(1),
            self.server.inbound_flow_control_window,
        ]


def cut(size: int, most: int) -> list[int]:
    return [min(most, size - at) for at in range(0, size, most)]


@given(SIZES)
def test_data_goes_out_and_comes_in_as_with_h2(sizes: list[int]) -> None:
    ours, theirs = Pair(), Pair()
    for size in sizes:
        if size > ours.client.local_flow_control_window(1):
            break
        data = bytes([size % 256]) * size
        sent = b"".join(ours.client.data_frames(1, data))
        for piece in cut(size, 16 * 1024):
            theirs.client.send_data(1, data[:piece])
            assert ours.server.take_data_frame(1, piece)
        theirs_sent = theirs.client.data_to_send()
        assert sent == theirs_sent
        theirs.server.receive_data(theirs_sent)
    assert ours.windows() == theirs.windows()


def test_what_is_over_a_window_is_refused() -> None:
    pair = Pair()
    window = pair.server.remote_flow_control_window(1)
    assert pair.server.take_data_frame(1, window)
    with pytest.raises(FlowControlError):
        pair.server.take_data_frame(1, 1)


def test_a_stream_that_is_over_takes_no_data() -> None:
    pair = Pair()
    pair.client.end_stream(1)
    pair.server.send_headers(1, [(b":status", b"200")])
    pair.talk()
    assert not pair.server.take_data_frame(1, 1)
    assert pair.client.take_data_frame(1, 1)  # the other half goes on
    with pytest.raises(H2Error):
        list(pair.client.data_frames(1, b"late"))


def test_h2_decides_on_what_is_unusual() -> None:
    """A stream that it does not know, a reply before its headers, a length that was announced."""
    pair = Pair()
    assert not pair.server.take_data_frame(3, 1)
    assert not pair.client.take_data_frame(1, 1)
    counted = Pair([*REQUEST, (b"content-length", b"5")])
    assert not counted.server.take_data_frame(1, 5)


def test_a_view_is_sent_as_its_bytes_are() -> None:
    view = memoryview(b"0123456789")[2:5]
    [header, piece] = Pair().client.data_frames(1, view)
    frame, length = DataFrame.parse_frame_header(memoryview(header))
    assert (type(frame), frame.stream_id, length, bytes(piece)) == (DataFrame, 1, 3, b"234")
