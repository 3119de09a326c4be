"""What a transport is written with: the contract's types, and what every transport would repeat.

For those who bring their own; docs/writing-a-transport.md leads through one. Endpoints, errors and
options are at the package root, the suite that tries a transport in
``aelf_p2p.testing.conformance``.
"""

from aelf_p2p.contracts import (
    CallHandler,
    IncomingCall,
    MessageStream,
    Metadata,
    OnFault,
    RpcChannel,
    Transport,
    ignore_fault,
)
from aelf_p2p.core.message_sizes import (
    MAX_MESSAGE_BYTES,
    before_trust,
    max_reply_bytes,
    max_request_bytes,
)
from aelf_p2p.core.single_error import single_error_as_itself
from aelf_p2p.transports.byte_call import ByteCall
from aelf_p2p.transports.handlers import Outcome, run_handler
from aelf_p2p.transports.unary import call_unary
from aelf_p2p.wire.methods import METHODS, Method

__all__ = [
    "MAX_MESSAGE_BYTES",
    "METHODS",
    "ByteCall",
    "CallHandler",
    "IncomingCall",
    "MessageStream",
    "Metadata",
    "Method",
    "OnFault",
    "Outcome",
    "RpcChannel",
    "Transport",
    "before_trust",
    "call_unary",
    "ignore_fault",
    "max_reply_bytes",
    "max_request_bytes",
    "run_handler",
    "single_error_as_itself",
]
