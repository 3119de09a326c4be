"""The handshakes of nodes that are none: of the sinks, and of the rival."""

import random
import time

from aelf_p2p import Identity, NetworkOptions
from aelf_p2p.core.chain_id import resolve_chain_id
from aelf_p2p.core.chain_status import ChainRoot, ChainStatus
from aelf_p2p.core.handshake import HandshakeRules, SentHandshake
from aelf_p2p.core.request_ids import new_request_id
from aelf_p2p.node import DEFAULT_NODE_VERSION


class Greeter:
    """Makes and checks handshakes under a key of its own."""

    def __init__(self) -> None:
        self.rules = HandshakeRules(
            identity=Identity.generate(),
            chain_id=resolve_chain_id("AELF"),
            node_version=DEFAULT_NODE_VERSION,
            options=NetworkOptions(),
        )
        self._rng = random.SystemRandom()

    @property
    def public_key(self) -> bytes:
        """65 bytes."""
        return self.rules.identity.public_key

    @property
    def max_opening_bytes(self) -> int:
        """What the first message of a stream may weigh."""
        return self.rules.options.max_message_before_handshake_bytes

    def new_handshake(self) -> SentHandshake:
        """A handshake of this moment."""
        return self.rules.make(
            listening_port=6800,
            status=ChainStatus.at_root(ChainRoot()),
            now_ns=time.time_ns(),
            rng=self._rng,
        )

    def new_request_id(self) -> str:
        """As a node makes them."""
        return new_request_id(time.time_ns(), self._rng)
