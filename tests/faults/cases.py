"""The faults and attacks that a node withstands, and what each must come to.

Tests of a case carry ``@pytest.mark.fault(number)``, wherever they stand.
"""

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """What a case must come to."""

    ERROR = "E"
    DROPPED = "D"
    BOUNDED = "B"
    ANSWERED = "A"


MEANINGS = {
    Outcome.ERROR: "whoever waits gets a typed error within its deadline",
    Outcome.DROPPED: "the offender is dropped within 2 s of overrunning its budget",
    Outcome.BOUNDED: "memory stays bounded: at most 16 MB an attacker, 5 times a large message",
    Outcome.ANSWERED: "it is answered, ignored or survived, as the case says",
}


@dataclass(frozen=True)
class Case:
    """One of them."""

    number: int
    what: str
    outcomes: frozenset[Outcome]


def _section(text: str) -> tuple[Case, ...]:
    """Of lines ``number outcomes what``."""
    cases = []
    for line in text.strip().splitlines():
        number, outcomes, what = line.split(maxsplit=2)
        cases.append(Case(int(number), what, frozenset(map(Outcome, outcomes))))
    return tuple(cases)


SECTIONS = {
    "TCP and TLS": _section("""
        1 E the connection ends (FIN) in the midst of a call: an error within 1 s
        2 E it is reset (RST)
        3 E the peer's process is stopped: silence, found by asking
        4 E it is killed
        5 E packets are dropped without a word
        6 D a connection that says nothing: 10 s
        7 D slow loris: frames that never become whole
        8 D a TLS handshake that stalls
        9 D garbage in place of TLS
        10 E a server without ALPN
        11 E the certificate changes between two connections of one dial
        12 A a hundred probes of the certificate: nothing logged, no descriptor left
        13 A out of descriptors: accepting pauses, and recovers
    """),
    "HTTP/2": _section("""
        14 D random bytes
        15 D HTTP/1 text
        16 DB rapid reset (CVE-2023-44487)
        17 DB resets provoked from us (MadeYouReset, CVE-2025-8671)
        18 D a flood of PINGs
        19 D a flood of SETTINGS
        20 D a flood of empty DATA
        21 DB a flood of CONTINUATION, big and many
        22 D an HPACK bomb
        23 D more streams than allowed
        24 D a window that overflows, an increment of zero
        25 DB a giant window that is never read
        26 A a graceful GOAWAY, theirs and ours: what is in flight ends well
        27 E a hard GOAWAY
        28 E RST_STREAM with every code
        29 E END_STREAM without trailers
        30 D line ends in a header, repeated pseudo-headers; no UTF-8 resets the stream alone
        31 D a stream opened by a server
    """),
    "gRPC": _section("""
        32 E a message of 0xFFFFFFFF bytes: RESOURCE_EXHAUSTED
        33 E 100 MiB, and a byte more or less
        34 A gzip both ways
        35 EB a gzip bomb
        36 E gzip that is cut short
        37 E the flag of compression without an encoding
        38 E no protobuf: INVALID_ARGUMENT
        39 E no message in a unary call, or two
        40 E an unknown method: UNIMPLEMENTED
        41 E grpc-timeout is kept, and the handler cancelled
        42 A whoever cancels sends RST_STREAM, and nothing is left over
        43 E metadata whose -bin value is no base64
        44 A leaving a stream early
        45 E an exception of a handler: nothing internal on the wire
    """),
    "Handshake": _section("""
        46 E wrong signature, chain or version: each has its HandshakeError
        47 E a recovery id of 4 and more
        48 E fields are missing
        49 E a stale time, a future one
        50 E a replay
        51 A one relayed to a third node pushes nobody out
        52 E our own key
        53 D a listening port of -1, 0, 65536
        54 A a node version that is empty or none
        55 D a second handshake on one stream
        56 E requests before the handshake
        57 A both dial at once: one connection
        58 D never confirmed: gone after 10 s
    """),
    "Stream and services": _section("""
        59 A no meta
        60 D meta that names another's key
        61 D a wrong session, three times
        62 A a reply that is unknown, repeated, of a wrong type: ignored and counted
        63 A unknown types
        64 DA a request id, or meta, of 1 MB
        65 A a count of -1, 0, 51, 2**31-1
        66 A a max_count of -1
        67 A a NodeList of 100,000: 10 are taken
        68 A endpoints such as a:b:c, [::1]:6800, host:99999
        69 A more transactions than are remembered: new ones come through
        70 B a flood of requests
        71 A a stalled peer: its own queues lose, and count it
        72 A broadcasts that nobody answers hold nothing up
        73 D banned while shaking hands
        74 A clocks jump by an hour
        75 A a thousand peers gone at once
    """),
}
CASES = {case.number: case for section in SECTIONS.values() for case in section}
