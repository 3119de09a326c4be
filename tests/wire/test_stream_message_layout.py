"""A StreamMessage can be written as pieces: the fan-out encodes all but the request id once."""

from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.wire import MessageType, StreamMessage, StreamType


@given(
    stream_type=st.sampled_from(StreamType.values()),
    message_type=st.sampled_from(MessageType.values()),
    request_id=st.text(),
    message=st.binary(),
    meta=st.dictionaries(st.text(), st.text(), max_size=4),
    data=st.data(),
)
def test_fields_one_after_another_in_any_order(
    stream_type: StreamType,
    message_type: MessageType,
    request_id: str,
    message: bytes,
    meta: dict[str, str],
    data: st.DataObject,
) -> None:
    whole = StreamMessage(
        stream_type=stream_type,
        message_type=message_type,
        request_id=request_id,
        message=message,
        meta=meta,
    )
    pieces = [
        StreamMessage(stream_type=stream_type),
        StreamMessage(message_type=message_type),
        StreamMessage(request_id=request_id),
        StreamMessage(message=message),
        *(StreamMessage(meta={key: value}) for key, value in meta.items()),
    ]
    laid_out = data.draw(st.permutations([piece.SerializeToString() for piece in pieces]))

    assert StreamMessage.FromString(b"".join(laid_out)) == whole
    assert sum(map(len, laid_out)) == whole.ByteSize()


def test_a_broadcast_differs_only_in_its_request_id() -> None:
    shared = StreamMessage(
        stream_type=StreamType.REQUEST,
        message_type=MessageType.BLOCK_BROADCAST,
        message=b"a block",
        meta={"public-key": "04aa"},
    ).SerializeToString()
    for request_id in ("1_a", "1_b"):
        own = StreamMessage(request_id=request_id).SerializeToString()
        parsed = StreamMessage.FromString(shared + own)
        assert parsed.request_id == request_id
        assert parsed.message == b"a block"
        assert parsed.meta == {"public-key": "04aa"}
