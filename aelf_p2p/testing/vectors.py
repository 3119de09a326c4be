"""Real AElf data to test against, and to relay in demonstrations.

Transactions and block headers of AElf's chains, and public test keys, with the hashes, addresses
and signatures that nodes and SDKs gave for them. All byte strings are decoded from hex; addresses
are their text. An absent value is None or empty.
"""

import functools
import importlib.resources
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class UnsignedTransactionVector:
    """A transaction's bytes before it is signed, what is in them, and their SHA-256, ``id``."""

    id: bytes
    raw: bytes
    from_address: str
    to_address: str
    ref_block_number: int
    ref_block_prefix: bytes
    method_name: str
    params: bytes


@dataclass(frozen=True, slots=True)
class TransactionVector(UnsignedTransactionVector):
    """A signed transaction; ``id`` is the SHA-256 of ``raw`` without the signature, field 10000."""

    signature: bytes
    """65 bytes over ``id``, by the key whose address is ``from_address``."""
    signer_pubkey: bytes


@dataclass(frozen=True, slots=True)
class BlockVector:
    """A block header; ``block_hash`` is the SHA-256 of ``header_without_signature``."""

    block_hash: bytes
    height: int
    chain_id: int
    previous_block_hash: bytes
    merkle_tree_root_of_transactions: bytes
    merkle_tree_root_of_world_state: bytes
    merkle_tree_root_of_transaction_status: bytes
    bloom: bytes
    time_seconds: int
    time_nanos: int
    extra_data_in_wire_order: tuple[tuple[str, bytes], ...]
    signer_pubkey: bytes
    header_without_signature: bytes
    header: bytes | None
    """With the signature in field 10000, where the signature is known."""
    signature: bytes | None
    transaction_ids: tuple[bytes, ...]
    block_with_transactions: bytes | None
    """The whole block, an ``aelf.BlockWithTransactions``, where its transactions are known."""


@dataclass(frozen=True, slots=True)
class MerkleVector:
    """Transaction ids and the merkle root in their block's header."""

    leaves: tuple[bytes, ...]
    root: bytes


@dataclass(frozen=True, slots=True)
class KeyVector:
    """A published secp256k1 test key. Never keep anything of value under it."""

    private_key: bytes
    public_key: bytes
    address: str


@dataclass(frozen=True, slots=True)
class PublicKeyAddressVector:
    """A public key and its address."""

    public_key: bytes
    address: str


@dataclass(frozen=True, slots=True)
class AddressVector:
    """An address's text and its 32 bytes."""

    text: str
    address: bytes


@dataclass(frozen=True, slots=True)
class SignatureVector:
    """A secp256k1 signature over a digest."""

    digest: bytes
    signature: bytes
    public_key: bytes
    message: bytes | None
    """What ``digest`` is the SHA-256 of, where known."""
    private_key: bytes | None
    """Where known; signing with it (RFC 6979) gives ``signature`` again."""


@dataclass(frozen=True, slots=True)
class ChainIdVector:
    """A chain's name and its number on the wire."""

    text: str
    value: int


@dataclass(frozen=True, slots=True)
class Vectors:
    """Everything in the data file, group by group."""

    transactions: tuple[TransactionVector, ...]
    unsigned_transactions: tuple[UnsignedTransactionVector, ...]
    blocks: tuple[BlockVector, ...]
    """By height, of several chains; no two are consecutive."""
    merkle_roots: tuple[MerkleVector, ...]
    keys: tuple[KeyVector, ...]
    pubkey_addresses: tuple[PublicKeyAddressVector, ...]
    addresses: tuple[AddressVector, ...]
    invalid_addresses: tuple[str, ...]
    signatures: tuple[SignatureVector, ...]
    chain_ids: tuple[ChainIdVector, ...]


@functools.cache
def load_vectors() -> Vectors:
    """The data file that comes with the package, read once."""
    file = importlib.resources.files(__package__).joinpath("vectors.json")
    data = json.loads(file.read_text("ascii"))
    return Vectors(
        transactions=tuple(
            TransactionVector(
                **_transaction_fields(item),
                signature=bytes.fromhex(item["signature"]),
                signer_pubkey=bytes.fromhex(item["signer_pubkey"]),
            )
            for item in data["transactions"]
        ),
        unsigned_transactions=tuple(
            UnsignedTransactionVector(**_transaction_fields(item))
            for item in data["unsigned_transactions"]
        ),
        blocks=tuple(map(_block, data["blocks"])),
        merkle_roots=tuple(
            MerkleVector(_hex_tuple(item["leaves"]), bytes.fromhex(item["root"]))
            for item in data["merkle_roots"]
        ),
        keys=tuple(
            KeyVector(
                bytes.fromhex(item["private_key"]),
                bytes.fromhex(item["public_key"]),
                item["address"],
            )
            for item in data["keys"]
        ),
        pubkey_addresses=tuple(
            PublicKeyAddressVector(bytes.fromhex(item["public_key"]), item["address"])
            for item in data["pubkey_addresses"]
        ),
        addresses=tuple(
            AddressVector(item["text"], bytes.fromhex(item["bytes"])) for item in data["addresses"]
        ),
        invalid_addresses=tuple(data["invalid_addresses"]),
        signatures=tuple(map(_signature, data["signatures"])),
        chain_ids=tuple(ChainIdVector(item["text"], item["value"]) for item in data["chain_ids"]),
    )


def _transaction_fields(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": bytes.fromhex(item["id"]),
        "raw": bytes.fromhex(item["raw"]),
        "from_address": item["from"],
        "to_address": item["to"],
        "ref_block_number": item["ref_block_number"],
        "ref_block_prefix": bytes.fromhex(item["ref_block_prefix"]),
        "method_name": item["method_name"],
        "params": bytes.fromhex(item["params"]),
    }


def _block(item: dict[str, Any]) -> BlockVector:
    return BlockVector(
        block_hash=bytes.fromhex(item["block_hash"]),
        height=item["height"],
        chain_id=item["chain_id"],
        previous_block_hash=bytes.fromhex(item["previous_block_hash"]),
        merkle_tree_root_of_transactions=bytes.fromhex(item["merkle_tree_root_of_transactions"]),
        merkle_tree_root_of_world_state=bytes.fromhex(item["merkle_tree_root_of_world_state"]),
        merkle_tree_root_of_transaction_status=bytes.fromhex(
            item["merkle_tree_root_of_transaction_status"]
        ),
        bloom=bytes.fromhex(item["bloom"]),
        time_seconds=item["time"]["seconds"],
        time_nanos=item["time"]["nanos"],
        extra_data_in_wire_order=tuple(
            (key, bytes.fromhex(value)) for key, value in item["extra_data_in_wire_order"]
        ),
        signer_pubkey=bytes.fromhex(item["signer_pubkey"]),
        header_without_signature=bytes.fromhex(item["header_without_signature"]),
        header=_optional_hex(item, "header"),
        signature=_optional_hex(item, "signature"),
        transaction_ids=_hex_tuple(item.get("transaction_ids", ())),
        block_with_transactions=_optional_hex(item, "block_with_transactions"),
    )


def _signature(item: dict[str, Any]) -> SignatureVector:
    return SignatureVector(
        digest=bytes.fromhex(item["digest"]),
        signature=bytes.fromhex(item["signature"]),
        public_key=bytes.fromhex(item["public_key"]),
        message=_optional_hex(item, "message"),
        private_key=_optional_hex(item, "private_key"),
    )


def _optional_hex(item: dict[str, Any], name: str) -> bytes | None:
    return bytes.fromhex(item[name]) if name in item else None


def _hex_tuple(values: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(map(bytes.fromhex, values))
