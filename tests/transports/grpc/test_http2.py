"""What we do by hand, or keep otherwise, against h2's own: the same bytes, windows, refusals,
settings and headers."""

from collections import deque

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RemoteSettingsChanged
from h2.exceptions import FlowControlError, H2Error
from h2.settings import SettingCodes
from hpack import Encoder
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


# --- settings and headers, kept in less ----------------------------------------------------------


def settled(client: H2Connection, server: H2Connection) -> tuple[dict[int, int], dict[int, int]]:
    """The client's settings as both sides know them, once all is read and acknowledged."""
    while (asked := client.data_to_send()) + (said := server.data_to_send()):
        for event in server.receive_data(asked):
            if isinstance(event, RemoteSettingsChanged) and isinstance(server, Http2):
                server.bound_their_settings(event)
        client.receive_data(said)
    return dict(client.local_settings), dict(server.remote_settings)


UPDATES = st.dictionaries(
    st.sampled_from([*SettingCodes]).filter(SettingCodes.ENABLE_PUSH.__ne__),
    st.integers(16_384, 70_000),
    max_size=3,
).map(lambda update: update | dict.fromkeys({8} & update.keys(), 1))


@given(st.lists(st.lists(UPDATES, max_size=3), max_size=3))
def test_settings_change_as_with_h2(turns: list[list[dict[SettingCodes | int, int]]]) -> None:
    """Several that are under way at once among them: each is acknowledged by itself."""
    ours = Http2(WireLimits(), is_client=True), Http2(WireLimits(), is_client=False)
    theirs = (
        H2Connection(H2Configuration(client_side=True)),
        H2Connection(H2Configuration(client_side=False)),
    )
    theirs[0].initiate_connection()
    theirs[1].initiate_connection()
    first = dict(ours[0].local_settings)
    theirs[0].update_settings(first)
    assert settled(*ours) == settled(*theirs)
    for turn in turns:
        for update in turn:
            ours[0].update_settings(update)
            theirs[0].update_settings(update)
        assert settled(*ours) == settled(*theirs)


TEXT = st.binary(min_size=1, max_size=8)
LARGE = st.integers(1000, 5000).map(lambda size: b"v" * size)


@given(st.lists(st.lists(st.tuples(TEXT, TEXT | LARGE), max_size=3), max_size=8))
def test_headers_are_written_and_read_as_with_hpack(
    blocks: list[list[tuple[bytes, bytes]]],
) -> None:
    """With a table that fills, and lets go of what is oldest."""
    http2, theirs = Http2(WireLimits(), is_client=True), Encoder()
    for block in blocks:
        written = http2.encoder.encode(block)
        assert written == theirs.encode(block)
        stripped = [(name, value.strip(b" \t")) for name, value in block]
        assert [(name, value) for name, value in http2.decoder.decode(written)] == stripped


def test_a_connection_keeps_no_deques() -> None:
    client, server = Http2(WireLimits(), is_client=True), Http2(WireLimits(), is_client=False)
    settled(client, server)
    kept = [
        server.encoder.header_table.dynamic_entries,
        server.decoder.header_table.dynamic_entries,
        *server.local_settings._settings.values(),
        *server.remote_settings._settings.values(),
    ]
    assert len(kept) == 2 + len(server.local_settings) + len(server.remote_settings)
    assert [each for each in kept if isinstance(each, deque)] == []
