"""Frames of the tcp transport made by hand: none of the code under test has a part in them."""

import struct

PREFACE = b"aelf-p2p/1\n"
SETTINGS, OPEN, REPLY, BYTES, END, STATUS, RESET, CREDIT, GOAWAY = range(1, 10)


def frame(kind: int, call_id: int, payload: bytes = b"", length: int = -1) -> bytes:
    """``length`` is a lie unless it is left out."""
    return struct.pack(">IBI", len(payload) if length < 0 else length, kind, call_id) + payload


def u32(number: int) -> bytes:
    return struct.pack(">I", number)


def settings(window: int, calls: int) -> bytes:
    return frame(SETTINGS, 0, u32(window) + u32(calls))


def greeting(window: int, calls: int) -> bytes:
    return PREFACE + settings(window, calls)


def opening(
    call_id: int,
    path: bytes = b"/PeerService/Ping",
    metadata: bytes = b"",
    *,
    timeout_ms: int = 0,
) -> bytes:
    """A call that takes gzip; of metadata see ``pair``."""
    flags = b"\x01"
    return frame(OPEN, call_id, flags + u32(timeout_ms) + bytes([len(path)]) + path + metadata)


def pair(key: bytes, value: bytes) -> bytes:
    """One of the metadata."""
    return bytes([len(key)]) + key + struct.pack(">H", len(value)) + value


def reply(call_id: int, *, gzip: bool = False) -> bytes:
    return frame(REPLY, call_id, bytes([gzip]))


def data(call_id: int, payload: bytes) -> bytes:
    """A BYTES frame."""
    return frame(BYTES, call_id, payload)


def end(call_id: int) -> bytes:
    return frame(END, call_id)


def status(call_id: int, code: int = 0, details: bytes = b"") -> bytes:
    return frame(STATUS, call_id, bytes([code]) + details)


def reset(call_id: int, cause: int = 0) -> bytes:
    return frame(RESET, call_id, bytes([cause]))


def credit(call_id: int, count: int) -> bytes:
    return frame(CREDIT, call_id, u32(count))


def goaway(last_call_id: int, why: str) -> bytes:
    return frame(GOAWAY, 0, u32(last_call_id) + why.encode())
