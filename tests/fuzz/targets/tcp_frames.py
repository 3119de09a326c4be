"""What is in the frames of the tcp transport: what is understood is written the same way again."""

from collections.abc import Iterator

from aelf_p2p.core.errors import MalformedError, StatusCode
from aelf_p2p.transports.tcp import frames as f
from aelf_p2p.transports.tcp.frames import Frame, FrameKind
from tests.fuzz import tcp_input

mutate = tcp_input.mutate_frames
MAX_BYTES = 20_000


def seeds() -> Iterator[bytes]:
    yield f.encode_settings(65_535, 100) + tcp_input.opening(1) + f.encode_reply(1, gzip=True)
    yield f.encode_status(1, StatusCode.OK, "") + f.encode_status(2, StatusCode.INTERNAL, "ü")
    yield f.encode_reset(1, f.ResetCause.ENDED) + f.encode_credit(1, 7) + f.encode_goaway(1, "bye")
    yield f.encode_header(FrameKind.END, 1, 0) + tcp_input.data(1, b"") + tcp_input.data(1, b"more")
    yield b"\0\0\0\0\x0a\0\0\0\0"


def target(data: bytes) -> bool:
    frames = 0
    try:
        for frame in f.FrameReader().read_untrusted(f.PREFACE + data):
            again = _written_again(frame)
            assert again is None or again[9:] == frame.payload, frame.kind
            frames += 1
    except MalformedError:
        return False
    return frames > 0


def _written_again(frame: Frame) -> bytes | None:
    """Raises MalformedError; None for a frame that has no content to read."""
    payload = frame.payload
    match frame.kind:
        case FrameKind.SETTINGS:
            return f.encode_settings(*f.parse_settings_untrusted(payload))
        case FrameKind.OPEN:
            return _opening_written_again(frame.call_id, payload)
        case FrameKind.REPLY:
            return f.encode_reply(frame.call_id, gzip=f.parse_reply_untrusted(payload))
        case FrameKind.STATUS:
            return f.encode_status(frame.call_id, *f.parse_status_untrusted(payload))
        case FrameKind.RESET:
            return f.encode_reset(frame.call_id, f.parse_reset_untrusted(payload))
        case FrameKind.CREDIT:
            return f.encode_credit(frame.call_id, f.parse_credit_untrusted(payload))
        case FrameKind.GOAWAY:
            return f.encode_goaway(*f.parse_goaway_untrusted(payload))
    return None


def _opening_written_again(call_id: int, payload: bytes) -> bytes:
    """But for its timeout, a float in between and rounded up: it may gain a millisecond."""
    opening = f.parse_open_untrusted(payload)
    again = f.encode_open(call_id, opening)
    timeout_s = f.parse_open_untrusted(again[9:]).timeout_s
    assert (timeout_s is None) == (opening.timeout_s is None)
    assert (timeout_s or 0) - (opening.timeout_s or 0) < 0.0011
    timeout = slice(9 + 1, 9 + 5)  # behind the frame's head and the flags
    return again[: timeout.start] + payload[1:5] + again[timeout.stop :]
