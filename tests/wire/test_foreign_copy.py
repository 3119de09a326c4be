"""Our messages beside a second copy of AElf's, under AElf's own names, in one process.

An embedder may carry such a copy (aelf-sdk does). Both must load, and each must read what the
other writes.
"""

from types import ModuleType
from typing import Any

import kernel_pb2
import network_types_pb2
import peer_service_pb2
import pytest
from aelf import core_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p import wire

FOREIGN_MODULES: list[ModuleType] = [core_pb2, kernel_pb2, network_types_pb2, peer_service_pb2]


def foreign(kind: str) -> dict[str, Any]:
    """The foreign copy's classes of one kind ("message_types" or "enum_types"), by name."""
    return {
        name: getattr(module, name)
        for module in FOREIGN_MODULES
        for name in getattr(module.DESCRIPTOR, f"{kind}_by_name")
    }


THEIRS = foreign("message_types")
THEIR_ENUMS = foreign("enum_types")

every_message = pytest.mark.parametrize("name", sorted(THEIRS))


# --- the two schemas ------------------------------------------------------------------------------


def test_we_export_what_the_foreign_copy_has() -> None:
    assert sorted(wire.__all__) == sorted([*THEIRS, *THEIR_ENUMS])


def test_our_names_are_not_theirs() -> None:
    for name, theirs in THEIRS.items():
        ours = getattr(wire, name)
        assert ours is not theirs
        assert ours.DESCRIPTOR.full_name == f"aelf_p2p.wire.{name}"
        assert ours.DESCRIPTOR.file.name != theirs.DESCRIPTOR.file.name


@every_message
def test_fields_are_the_same(name: str) -> None:
    ours = schema(getattr(wire, name).DESCRIPTOR)
    theirs = schema(THEIRS[name].DESCRIPTOR)
    if name == "HandshakeData":
        assert ours["fields"].pop(1000)[0] == "aelf_p2p_revision"
        assert ours["fields"].pop(1001)[0] == "certificate_hash"
    assert ours == theirs


@pytest.mark.parametrize("name", sorted(THEIR_ENUMS))
def test_enum_values_are_the_same(name: str) -> None:
    assert getattr(wire, name).items() == THEIR_ENUMS[name].items()


def schema(descriptor: Descriptor) -> dict[str, Any]:
    """What a message has on the wire, and its fields' names: comparable between packages."""
    proto = DescriptorProto()
    descriptor.CopyToProto(proto)
    return {
        "fields": {
            field.number: (field.name, field.type, field.label, unqualified(field.type_name))
            for field in proto.field
        },
        "nested": {nested.name: schema(nested) for nested in descriptor.nested_types},
        "enums": {enum.name: enum_values(enum) for enum in descriptor.enum_types},
        "is map entry": proto.options.map_entry,
    }


def enum_values(enum: EnumDescriptor) -> dict[str, int]:
    return {value.name: value.number for value in enum.values}


def unqualified(type_name: str) -> str:
    return type_name.removeprefix(".aelf_p2p.wire").removeprefix(".aelf")


# --- their bytes ----------------------------------------------------------------------------------


@every_message
@given(data=st.data())
def test_each_reads_what_the_other_writes(name: str, data: st.DataObject) -> None:
    ours = getattr(wire, name)
    theirs = THEIRS[name]
    # drawn from their schema, so that field 1000 is left to its own test
    content = data.draw(contents(theirs.DESCRIPTOR))

    written_by_us = ours(**content)
    written_by_them = theirs(**content)
    read_by_them = theirs.FromString(written_by_us.SerializeToString())
    read_by_us = ours.FromString(written_by_them.SerializeToString())

    assert read_by_them == written_by_them
    assert read_by_us == written_by_us
    assert values(read_by_them) == values(read_by_us)
    assert written_by_us.SerializeToString(deterministic=True) == (
        written_by_them.SerializeToString(deterministic=True)
    )


@every_message
def test_each_reads_every_field_of_the_other(name: str) -> None:
    ours = getattr(wire, name)
    theirs = THEIRS[name]
    content = full_content(theirs.DESCRIPTOR)

    read_by_them = theirs.FromString(ours(**content).SerializeToString())
    read_by_us = ours.FromString(theirs(**content).SerializeToString())

    assert len(read_by_them.ListFields()) == len(settable_fields(theirs.DESCRIPTOR))
    assert values(read_by_them) == values(read_by_us)


def test_a_foreign_node_keeps_our_additions() -> None:
    ours = wire.HandshakeData(
        chain_id=9992731,
        node_version="1.12.3.0",
        aelf_p2p_revision=1,
        certificate_hash=b"c" * 32,
    )
    kept = network_types_pb2.HandshakeData.FromString(ours.SerializeToString())
    assert kept.node_version == "1.12.3.0"
    # what it hashes to check the signature is what we signed
    assert kept.SerializeToString() == ours.SerializeToString()


INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)

# the scalar types that AElf's messages use
SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_INT32: INT32,
    FieldDescriptor.TYPE_INT64: INT64,
    FieldDescriptor.TYPE_STRING: st.text(),
    FieldDescriptor.TYPE_BYTES: st.binary(),
}


def contents(descriptor: Descriptor) -> st.SearchStrategy[dict[str, Any]]:
    """Keyword arguments for a message of this type, some of its fields left out."""
    return st.fixed_dictionaries(
        {}, optional={field.name: field_values(field) for field in descriptor.fields}
    )


def field_values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if entry := map_entry(field):
        return st.dictionaries(single_values(entry["key"]), single_values(entry["value"]))
    if field.is_repeated:
        return st.lists(single_values(field), max_size=3)
    return single_values(field)


def single_values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return contents(field.message_type)
    if field.enum_type is not None:
        # 99: what a later version may add is kept as a number
        return st.sampled_from([*enum_values(field.enum_type).values(), 99])
    return SCALARS[field.type]


def full_content(descriptor: Descriptor) -> dict[str, Any]:
    """Keyword arguments that set every field, and each to something of its own."""
    return {field.name: full_value(field) for field in descriptor.fields}


def full_value(field: FieldDescriptor) -> Any:
    if entry := map_entry(field):
        return {f"{n}": full_single_value(entry["value"], n) for n in (1, 2)}
    if field.is_repeated:
        return [full_single_value(field, n) for n in (1, 2)]
    return full_single_value(field, 0)


def full_single_value(field: FieldDescriptor, n: int) -> Any:
    if field.message_type is not None:
        return full_content(field.message_type)
    if field.enum_type is not None:
        return max(enum_values(field.enum_type).values())
    text = f"{field.full_name} {n}"
    return {
        FieldDescriptor.TYPE_INT32: 1_000 * field.number + n,
        FieldDescriptor.TYPE_INT64: 1_000 * field.number + n,
        FieldDescriptor.TYPE_STRING: text,
        FieldDescriptor.TYPE_BYTES: text.encode(),
    }[field.type]


def settable_fields(descriptor: Descriptor) -> list[FieldDescriptor]:
    """All fields but those of an enum with nothing but its default (DisconnectReason.Reason)."""
    return [
        field
        for field in descriptor.fields
        if field.enum_type is None or len(field.enum_type.values) > 1
    ]


def map_entry(field: FieldDescriptor) -> dict[str, FieldDescriptor] | None:
    """The ``key`` and ``value`` of a map field; None for other fields."""
    if field.message_type is None or not field.message_type.GetOptions().map_entry:
        return None
    return dict(field.message_type.fields_by_name)


def values(message: Message) -> dict[str, Any]:
    """What a message holds, as plain values that compare between packages."""
    return {field.name: plain(field, value) for field, value in message.ListFields()}


def plain(field: FieldDescriptor, value: Any) -> Any:
    if map_entry(field):
        return dict(value)
    if field.is_repeated:
        return [plain_single(item) for item in value]
    return plain_single(value)


def plain_single(value: Any) -> Any:
    return values(value) if isinstance(value, Message) else value
