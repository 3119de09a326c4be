"""The wire walk against an independent oracle: google.protobuf's own parser and serialiser.

For messages without maps, google.protobuf writes what C# writes, so "parsed and serialised again
it is the same" is what canonical means. Unknown fields are the exception (it keeps them as they
came), and are tested by tables.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import groupby
from typing import Any

import pytest
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import example, given
from hypothesis import strategies as st
from network_types_pb2 import HandshakeData  # AElf's own: without our extensions

from aelf_p2p.core import canonical, transaction
from aelf_p2p.core.block import BLOCK_HEADER_SPEC, Block, BlockHeader, parse_block_list_untrusted
from aelf_p2p.core.canonical import (
    HANDSHAKE_DATA_SPEC,
    INT64,
    STEP_BYTES,
    MessageSpec,
    walk_in_steps_untrusted,
    walk_untrusted,
)
from aelf_p2p.core.encoders import (
    encode_message_field,
    encode_string_field,
    encode_timestamp_field,
    encode_varint,
    encode_varint_field,
)
from aelf_p2p.core.errors import MalformedError, MisuseError
from aelf_p2p.core.fields import (
    cut_field_untrusted,
    field_untrusted,
    repeated_untrusted,
)
from aelf_p2p.core.transaction import TRANSACTION_SPEC
from aelf_p2p.wire import Transaction
from tests.core.pauses import count_pauses

ORACLES: list[tuple[MessageSpec, type[Message]]] = [
    (TRANSACTION_SPEC, Transaction),
    (HANDSHAKE_DATA_SPEC, HandshakeData),
]

INT32S = st.integers(-(1 << 31), (1 << 31) - 1)
INT64S = st.integers(-(1 << 63), (1 << 63) - 1)
VALUES32 = st.binary(min_size=32, max_size=32)


@st.composite
def transactions(draw: st.DrawFn) -> Transaction:
    message = Transaction(
        ref_block_number=draw(INT64S),
        ref_block_prefix=draw(st.binary(max_size=8)),
        method_name=draw(st.text(max_size=20)),
        params=draw(st.binary(max_size=200)),
        signature=draw(st.binary(max_size=70)),
    )
    for address in (getattr(message, "from"), message.to):
        if draw(st.booleans()):
            address.value = draw(VALUES32)
    return message


@st.composite
def handshakes(draw: st.DrawFn) -> HandshakeData:
    message = HandshakeData(
        chain_id=draw(INT32S),
        version=draw(INT32S),
        listening_port=draw(INT32S),
        pubkey=draw(st.binary(max_size=65)),
        best_chain_height=draw(INT64S),
        last_irreversible_block_height=draw(INT64S),
        node_version=draw(st.text(max_size=12)),
    )
    for each in (message.best_chain_hash, message.last_irreversible_block_hash):
        if draw(st.booleans()):
            each.value = draw(VALUES32)
    if draw(st.booleans()):
        message.time.SetInParent()  # present, even when seconds and nanos are 0
        message.time.seconds = draw(st.integers(-62_135_596_800, 253_402_300_799))
        message.time.nanos = draw(st.integers(0, 999_999_999))
    return message


def values_of(message: Message) -> dict[int, Any]:
    """Return what Fields.values should be, as google.protobuf sees it."""
    values: dict[int, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is None:
            values[field.number] = value
        elif field.message_type.name == "Timestamp":
            values[field.number] = value.seconds * 10**9 + value.nanos
        else:
            values[field.number] = value.value
    return values


def has_unknown(message: Message) -> bool:
    return len(UnknownFieldSet(message)) > 0 or any(
        has_unknown(value) for field, value in message.ListFields() if field.message_type
    )


def is_within_our_rules(message: Message) -> bool:
    """Tell whether its hashes are 32 bytes and its times are times: rules beyond the layout."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.name == "Timestamp":
            in_range = -62_135_596_800 <= value.seconds <= 253_402_300_799
            if not (in_range and 0 <= value.nanos < 10**9):
                return False
        elif len(value.value) != 32:
            return False
    return True


def is_accepted(raw: bytes, spec: MessageSpec) -> bool:
    try:
        walk_untrusted(raw, spec)
    except MalformedError:
        return False
    return True


# --- what google.protobuf writes ------------------------------------------------------------------


@given(transactions())
def test_a_transaction_as_protobuf_writes_it_is_canonical(message: Transaction) -> None:
    raw = message.SerializeToString()
    values, (start, end) = walk_untrusted(raw, TRANSACTION_SPEC)
    assert values == values_of(message)
    message.ClearField("signature")
    assert raw[:start] + raw[end:] == message.SerializeToString()


@given(handshakes())
def test_handshake_data_as_protobuf_writes_it_is_canonical(message: HandshakeData) -> None:
    raw = message.SerializeToString()
    values, span = walk_untrusted(raw, HANDSHAKE_DATA_SPEC)
    assert values == values_of(message)
    assert span == (len(raw), len(raw))


@st.composite
def damaged(draw: st.DrawFn) -> tuple[int, bytes]:
    """Take a message's bytes and cut, repeat, move or overwrite pieces of them."""
    which = draw(st.integers(0, 1))
    message: Message = draw(transactions()) if which == 0 else draw(handshakes())
    raw = message.SerializeToString()
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(raw)))
        end = draw(st.integers(start, min(len(raw), start + 80)))
        piece = draw(
            st.one_of(
                st.binary(max_size=4),
                st.just(raw[start:end] * 2),
                st.sampled_from((b"\x00", b"\x18\x00", b"\x22\x00", b"\x0a\x00", b"\x80\x00")),
            )
        )
        raw = raw[:start] + piece + raw[end:]
        if draw(st.booleans()):
            at = draw(st.integers(0, len(raw)))
            raw = raw[at:] + raw[:at]
    return which, raw


@given(damaged())
@example((0, b"\x18\x01\x22\x01a"))
@example((0, b"\x22\x01a\x18\x01"))
@example((1, b"\x08\xff\xff\xff\xff\x0f"))
def test_it_accepts_exactly_what_protobuf_would_write_again(case: tuple[int, bytes]) -> None:
    which, raw = case
    spec, message_type = ORACLES[which]
    try:
        message = message_type.FromString(raw)
    except DecodeError:
        assert not is_accepted(raw, spec)
        return
    same = message.SerializeToString() == raw and is_within_our_rules(message)
    if has_unknown(message):
        assert same or not is_accepted(raw, spec)
    else:
        assert same is is_accepted(raw, spec)


# --- layouts, one by one --------------------------------------------------------------------------

NUMBER_3 = b"\x18\x07"  # Transaction.ref_block_number
PREFIX_4 = b"\x22\x01p"
METHOD_5 = b"\x2a\x01m"
SIGNATURE = b"\x82\xf1\x04\x01s"
UNKNOWN_7 = b"\x3a\x01u"
UNKNOWN_8 = b"\x40\x01"
VALUE = bytes(range(32))


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(PREFIX_4 + NUMBER_3, id="two fields swapped"),
        pytest.param(NUMBER_3 + NUMBER_3, id="a scalar twice"),
        pytest.param(METHOD_5 + METHOD_5, id="a string twice"),
        pytest.param(b"\x18\x00", id="a default integer"),
        pytest.param(b"\x22\x00", id="a default bytes"),
        pytest.param(b"\x2a\x00", id="a default string"),
        pytest.param(b"\x18\x87\x00", id="an overlong integer"),
        pytest.param(b"\x98\x00\x07", id="an overlong tag"),
        pytest.param(b"\x22\x81\x00p", id="an overlong length"),
        pytest.param(b"\x18" + b"\xff" * 9 + b"\x02", id="an integer above 64 bits"),
        pytest.param(b"\x18" + b"\xff" * 10 + b"\x01", id="an integer of 11 bytes"),
        pytest.param(b"\x22\x02p", id="content cut short"),
        pytest.param(b"\x18", id="an integer cut short"),
        pytest.param(b"\x18\x80", id="an integer cut short within"),
        pytest.param(b"\x82\xf1", id="a tag cut short"),
        pytest.param(b"\x22" + b"\xff" * 9 + b"\x01", id="a giant length"),
        pytest.param(b"\x2a\x01\xff", id="not UTF-8"),
        pytest.param(b"\x2a\x03\xed\xa0\x80", id="a surrogate in UTF-8"),
        pytest.param(b"\x22\x03p\xc3\x28\x23\x24", id="a group around"),
        pytest.param(b"\x1b\x1c", id="a group for a known field"),
        pytest.param(b"\x3b\x3c", id="an unknown group"),
        pytest.param(b"\x3c", id="an end of a group"),
        pytest.param(b"\x3e", id="wire type 6"),
        pytest.param(b"\x3f", id="wire type 7"),
        pytest.param(b"\x20\x01", id="a wrong wire type"),
        pytest.param(b"\x00\x01", id="field 0"),
        pytest.param(b"\x80\x80\x80\x80\x10\x01", id="field 2**29"),
        pytest.param(UNKNOWN_7 + SIGNATURE, id="unknown before known"),
        pytest.param(UNKNOWN_7 + UNKNOWN_8 + UNKNOWN_7, id="an unknown number scattered"),
        pytest.param(UNKNOWN_7 + b"\x38\x01", id="unknown wire types out of C#'s order"),
        pytest.param(b"\x40\x81\x00", id="an overlong unknown integer"),
        pytest.param(b"\x3a\x81\x00u", id="an overlong unknown length"),
        pytest.param(b"\x3a\x02u", id="an unknown field cut short"),
        pytest.param(b"\x3d\x01\x02\x03", id="an unknown fixed32 cut short"),
        pytest.param(b"\x39\x01\x02\x03\x04\x05\x06\x07", id="an unknown fixed64 cut short"),
        pytest.param(b"\x3a", id="an unknown length missing"),
        pytest.param(b"\x0a\x00", id="an address without a value"),
        pytest.param(b"\x0a\x03\x0a\x01a", id="an address of 1 byte"),
        pytest.param(b"\x0a\x23\x0a\x21" + bytes(33), id="an address of 33 bytes"),
        pytest.param(b"\x0a\x02\x08\x01", id="an address of the wrong wire type"),
        pytest.param(b"\x0a\x44" + (b"\x0a\x20" + VALUE) * 2, id="an address with two values"),
        pytest.param(b"\x0a\x24\x10\x01\x0a\x20" + VALUE, id="unknown before known within"),
    ],
)
def test_layouts_that_csharp_would_not_write_are_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        walk_untrusted(raw, TRANSACTION_SPEC)


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        pytest.param(b"", {}, id="nothing"),
        pytest.param(NUMBER_3 + UNKNOWN_8 + UNKNOWN_7, {3: 7}, id="unknown in any order"),
        pytest.param(UNKNOWN_7 + UNKNOWN_8, {}, id="an integer after bytes, of another number"),
        pytest.param(UNKNOWN_7 + UNKNOWN_7, {}, id="an unknown number repeated"),
        pytest.param(b"\x40\x00\x3a\x00", {}, id="unknown fields may be 0 or empty"),
        pytest.param(
            b"\x38\x01\x38\x01\x3d" + bytes(4) + b"\x39" + bytes(8) + UNKNOWN_7,
            {},
            id="one unknown number of all wire types, in C#'s order",
        ),
        pytest.param(b"\xf8\xff\xff\xff\x0f\x01", {}, id="field 2**29 - 1"),
        pytest.param(b"\x18" + b"\xff" * 9 + b"\x01", {3: -1}, id="-1"),
        pytest.param(
            b"\x0a\x24\x0a\x20" + VALUE + b"\x10\x01", {1: VALUE}, id="unknown in an address"
        ),
    ],
)
def test_layouts_that_csharp_writes_are_accepted(raw: bytes, values: dict[int, Any]) -> None:
    assert walk_untrusted(raw, TRANSACTION_SPEC).values == values


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (NUMBER_3 + SIGNATURE + UNKNOWN_7, NUMBER_3 + UNKNOWN_7),
        (SIGNATURE, b""),
        (NUMBER_3 + UNKNOWN_7, NUMBER_3 + UNKNOWN_7),
        (b"", b""),
    ],
)
def test_the_span_cuts_out_the_signature_or_is_empty(raw: bytes, kept: bytes) -> None:
    start, end = walk_untrusted(raw, TRANSACTION_SPEC).span
    assert raw[:start] + raw[end:] == kept
    # Another signature put there is in C#'s place: after what is known, before what is not.
    replaced = raw[:start] + SIGNATURE + raw[end:]
    assert walk_untrusted(replaced, TRANSACTION_SPEC).values[10000] == b"s"


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"\x08\xff\xff\xff\xff\x07", (1 << 31) - 1),
        (b"\x08" + b"\xff" * 9 + b"\x01", -1),
        (b"\x08\x80\x80\x80\x80\xf8\xff\xff\xff\xff\x01", -(1 << 31)),
    ],
)
def test_an_int32_in_range(raw: bytes, value: int) -> None:
    assert walk_untrusted(raw, HANDSHAKE_DATA_SPEC).values == {1: value}


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x08\x80\x80\x80\x80\x08", id="2**31"),
        pytest.param(b"\x08\xff\xff\xff\xff\x0f", id="-1 not sign-extended"),
        pytest.param(b"\x08\xff\xff\xff\xff\xf7\xff\xff\xff\xff\x01", id="-2**31 - 1"),
    ],
)
def test_an_int32_out_of_range_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedError, match="HandshakeData, field 1: not an int32"):
        walk_untrusted(raw, HANDSHAKE_DATA_SPEC)


@pytest.mark.parametrize(
    "time_ns", [0, 1, -1, 1732172217321312000, -62_135_596_800 * 10**9, 253_402_300_800 * 10**9 - 1]
)
def test_a_time_is_read_back(time_ns: int) -> None:
    raw = encode_timestamp_field(9, time_ns)
    assert HandshakeData.FromString(raw).time.ToNanoseconds() == time_ns
    assert walk_untrusted(raw, HANDSHAKE_DATA_SPEC).values == {9: time_ns}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(encode_varint_field(1, -62_135_596_801), id="before the year 1"),
        pytest.param(encode_varint_field(1, 253_402_300_800), id="after the year 9999"),
        pytest.param(encode_varint_field(2, -1), id="negative nanos"),
        pytest.param(encode_varint_field(2, 10**9), id="a second of nanos"),
        pytest.param(encode_varint_field(2, 5) + encode_varint_field(1, 5), id="swapped"),
        pytest.param(b"\x08\x00", id="default seconds"),
    ],
)
def test_a_time_that_is_none_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedError, match="HandshakeData, field 9"):
        walk_untrusted(encode_message_field(9, body), HANDSHAKE_DATA_SPEC)


@pytest.mark.parametrize("extension", [b"\x58\x01\xc0\x3e\x02", b"\xc0\x3e\x02\x58\x01"])
def test_fields_of_handshake_data_that_csharp_does_not_know_come_last(extension: bytes) -> None:
    known = b"\x08\x01\x52\x017"
    assert walk_untrusted(known + extension, HANDSHAKE_DATA_SPEC).values == {1: 1, 10: "7"}
    with pytest.raises(MalformedError, match="after an unknown field"):
        walk_untrusted(extension + known, HANDSHAKE_DATA_SPEC)


def test_a_spec_can_cut_out_only_its_last_field() -> None:
    with pytest.raises(MisuseError, match="only the last"):
        MessageSpec("M", {1: INT64, 2: INT64}, cut=1)


# --- maps -----------------------------------------------------------------------------------------


def entry(body: bytes) -> bytes:
    return encode_message_field(8, body)


@pytest.mark.parametrize(
    ("bodies", "pairs"),
    [
        ([b"\x0a\x01b\x12\x01x", b"\x0a\x01a\x12\x01y"], [("b", b"x"), ("a", b"y")]),
        ([b"\x0a\x01a"], [("a", b"")]),
        ([b"\x12\x01x"], [("", b"x")]),
        ([b""], [("", b"")]),
    ],
)
def test_map_entries_keep_their_order_and_leave_out_defaults(
    bodies: list[bytes], pairs: list[tuple[str, bytes]]
) -> None:
    raw = b"".join(entry(body) for body in bodies)
    assert list(walk_untrusted(raw, BLOCK_HEADER_SPEC).values[8].items()) == pairs


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(entry(b"\x0a\x01a\x12\x00"), id="a default value, as Python writes it"),
        pytest.param(entry(b"\x0a\x00\x12\x01x"), id="a default key"),
        pytest.param(entry(b"\x12\x01x\x0a\x01a"), id="value before key"),
        pytest.param(entry(b"\x0a\x01a") + entry(b"\x0a\x01a\x12\x01x"), id="a key repeated"),
        pytest.param(entry(b"") + entry(b"\x12\x01x"), id="the empty key repeated"),
        pytest.param(entry(b"\x0a\x01a\x18\x01"), id="an unknown field, which C# drops"),
        pytest.param(entry(b"\x0a\x01\xff"), id="a key that is not UTF-8"),
        pytest.param(entry(b"\x0a\x02a"), id="a key cut short"),
        pytest.param(
            entry(b"\x0a\x01a") + encode_timestamp_field(9, 1) + entry(b"\x0a\x01b"),
            id="entries apart",
        ),
        pytest.param(b"\x40\x01", id="a wrong wire type"),
    ],
)
def test_map_entries_that_csharp_would_not_write_are_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        walk_untrusted(raw, BLOCK_HEADER_SPEC)


# --- nothing but MalformedError -------------------------------------------------------------------

WALKS: list[Callable[[bytes], object]] = [
    lambda raw: walk_untrusted(raw, TRANSACTION_SPEC),
    lambda raw: walk_untrusted(raw, BLOCK_HEADER_SPEC),
    lambda raw: walk_untrusted(raw, HANDSHAKE_DATA_SPEC),
    lambda raw: field_untrusted(raw, 1),
    lambda raw: cut_field_untrusted(raw, 1),
    lambda raw: list(repeated_untrusted(raw, 1, 2)),
    transaction.Transaction.parse_untrusted,
    BlockHeader.parse_untrusted,
    Block.parse_untrusted,
    lambda raw: list(parse_block_list_untrusted(raw)),
]


@given(
    st.one_of(
        st.binary(max_size=100),
        # Tags of known fields and small numbers, so that the walk gets further.
        st.lists(st.sampled_from(b"\x0a\x12\x18\x22\x2a\x32\x42\x4a\x00\x01\x02\x80\xff")).map(
            bytes
        ),
        damaged().map(lambda case: case[1]),
    )
)
def test_random_bytes_raise_nothing_but_malformed_error(raw: bytes) -> None:
    for walk in WALKS:
        with suppress(MalformedError):
            walk(raw)


@pytest.mark.parametrize(
    ("raw", "spec"),
    [
        pytest.param(b"\x3b" * 1_000_000, TRANSACTION_SPEC, id="groups in groups"),
        pytest.param(b"\x0a" * 1_000_000, TRANSACTION_SPEC, id="a message in a message"),
        pytest.param(b"\x80" * 1_000_000, TRANSACTION_SPEC, id="a varint without an end"),
        pytest.param(b"\x3a\x00\x42\x00" * 250_000, TRANSACTION_SPEC, id="scattered fields"),
        pytest.param(b"\x42\x00" * 500_000, BLOCK_HEADER_SPEC, id="a key over and over"),
    ],
)
def test_long_hostile_input_is_refused_without_deep_recursion(
    raw: bytes, spec: MessageSpec
) -> None:
    with pytest.raises(MalformedError):
        walk_untrusted(raw, spec)


LONG = 20_000  # fields


def varints(numbers: Iterable[int]) -> bytes:
    """A field each, of the value 0, which ours would leave out."""
    return b"".join(encode_varint(number << 3) + b"\0" for number in numbers)


@pytest.mark.parametrize(
    ("raw", "spec"),
    [
        pytest.param(varints([7] * LONG), TRANSACTION_SPEC, id="one unknown number"),
        pytest.param(varints(range(11_000, 11_000 + LONG)), TRANSACTION_SPEC, id="many of them"),
        pytest.param(
            varints(range(11_000 + LONG, 11_000, -1)), TRANSACTION_SPEC, id="in falling order"
        ),
        pytest.param(
            encode_message_field(1, b"\x0a\x20" + VALUE + varints([2] * LONG)),
            TRANSACTION_SPEC,
            id="in an address",
        ),
        pytest.param(
            encode_message_field(9, b"\x08\x01" + varints([7] * LONG)),
            BLOCK_HEADER_SPEC,
            id="in a time",
        ),
        pytest.param(
            b"".join(
                encode_message_field(8, encode_string_field(1, f"{key:x}")) for key in range(LONG)
            ),
            BLOCK_HEADER_SPEC,
            id="entries of a map",
        ),
    ],
)
def test_megabytes_of_tiny_fields_are_right_and_take_many_steps(
    raw: bytes, spec: MessageSpec
) -> None:
    found, pauses = count_pauses(walk_in_steps_untrusted(raw, spec))
    assert found == walk_untrusted(raw, spec)
    # As many as there are pieces of STEP_BYTES, the last of which may end before a pause.
    assert len(raw) // STEP_BYTES - 1 <= pauses
    with pytest.raises(MalformedError):
        walk_untrusted(raw + b"\x0a", spec)


@given(st.lists(st.integers(11, 40), max_size=30))
def test_an_unknown_number_comes_in_one_place(numbers: list[int]) -> None:
    raw = varints(numbers)
    if len(list(groupby(numbers))) == len(set(numbers)):
        assert walk_untrusted(raw, HANDSHAKE_DATA_SPEC).values == {}
    else:
        with pytest.raises(MalformedError, match="scattered"):
            walk_untrusted(raw, HANDSHAKE_DATA_SPEC)


def test_a_map_has_so_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical, "MAX_MAP_ENTRIES", 3)
    entries = [encode_message_field(8, encode_string_field(1, key)) for key in "abcd"]
    assert len(walk_untrusted(b"".join(entries[:3]), BLOCK_HEADER_SPEC).values[8]) == 3
    with pytest.raises(MalformedError, match="over 3 entries"):
        walk_untrusted(b"".join(entries), BLOCK_HEADER_SPEC)
