"""Where a node listens: a host, by address or by name, and a port."""

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from aelf_p2p.core.errors import MalformedError, MisuseError

DEFAULT_PORT = 6800
"""The port of an endpoint that names none (protocol §3)."""
MAX_PORT = 65535

_MAX_NAME_LENGTH = 253
_MAX_TEXT_LENGTH = _MAX_NAME_LENGTH + len(f":{MAX_PORT}")
_PORT = re.compile(r"[0-9]{1,5}")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# The resolver reads a name such as "127.1", "2130706433" or "0x7f.1" as an IPv4 address, which
# would go round every check of loopback and private hosts; no real name ends in such a label.
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")

# RFC 4291, section 2.4. Outside of it are NAT64 addresses and other disguises of IPv4 ones.
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")

_COUNTED_BITS = 64

_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, order=True, slots=True)
class Endpoint:
    """A host and a TCP port, 1 to 65535.

    The host is an IPv4 or IPv6 address (no brackets, no scope) or a host name; it is kept as
    :func:`normalise_host` gives it, so that equal endpoints compare equal. Raises MisuseError for
    anything else; hosts and ports that a peer told go in through the ``*_untrusted`` constructors.
    """

    host: str
    port: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", normalise_host(self.host))
        if not _is_host(self.host):
            raise MisuseError(f"{self.host[:_MAX_NAME_LENGTH]!a} is not a host")
        if not 1 <= self.port <= MAX_PORT:
            raise MisuseError(f"port {self.port} is not between 1 and {MAX_PORT}")

    @classmethod
    def of_untrusted(cls, host: str, port: int) -> Self:
        """The endpoint of a host and a port that a peer told. Raises MalformedError."""
        try:
            return cls(host, port)
        except MisuseError as error:
            raise MalformedError(str(error)) from error

    @classmethod
    def parse_untrusted(cls, text: str, default_port: int = DEFAULT_PORT) -> Self:
        """The endpoint that ``text`` writes, as :func:`split_host_port_untrusted` reads it.

        Raises MalformedError.
        """
        return cls.of_untrusted(*split_host_port_untrusted(text, default_port))

    def __str__(self) -> str:
        """``host:port``, with an IPv6 address in brackets; parses to an equal endpoint."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the host is an address in 127.0.0.0/8 or ``::1``. A name never is."""
        return is_loopback_host(self.host)

    @property
    def is_global(self) -> bool:
        """Whether the host is an address that the whole internet reaches, by unicast.

        A name never is, nor an IPv6 address that stands for an IPv4 one, since what it leads to
        depends on the network.
        """
        address = _address(self.host)
        if isinstance(address, ipaddress.IPv6Address):
            return address in _GLOBAL_UNICAST and address.is_global and not address.sixtofour
        return address is not None and address.is_global and not address.is_multicast


def split_host_port_untrusted(text: str, default_port: int) -> tuple[str, int]:
    """The host and the port in ``text``, neither of them checked further.

    It is ``host``, ``host:port``, ``[IPv6]``, ``[IPv6]:port``, or an IPv6 address alone, all of
    whose colons are its own (``::1:6800`` has no port). Raises MalformedError.
    """
    if len(text) > _MAX_TEXT_LENGTH:
        raise MalformedError(f"endpoint of {len(text)} characters, over {_MAX_TEXT_LENGTH}")
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host or not (rest == "" or rest.startswith(":")):
            raise MalformedError(f"{text!a} is not [address] or [address]:port")
        port_text = rest[1:] if rest else None
    elif text.count(":") == 1:
        host, _, port_text = text.partition(":")
    else:
        host, port_text = text, None
    if port_text is None:
        return host, default_port
    if not _PORT.fullmatch(port_text):
        raise MalformedError(f"{port_text!a} is not a port")
    return host, int(port_text)


def normalise_host(host: str) -> str:
    """The one spelling of a host: addresses shortest, an IPv4-mapped IPv6 one as IPv4.

    A dual-stack socket reports IPv4 callers as ``::ffff:1.2.3.4``. What is not an address is only
    put in lower case. Never raises.
    """
    address = _address(host)
    if address is None:
        return host.lower()
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def is_loopback_host(host: str) -> bool:
    """Whether ``host`` is a loopback address, in any spelling. A name never is. Never raises."""
    address = _address(normalise_host(host))
    return address is not None and address.is_loopback


@lru_cache(maxsize=4096)  # tables ask for all their entries each time
def counted_host(host: str) -> str:
    """What counts as one host wherever hosts are limited or banned. Never raises.

    An IPv4 address and a name are each one, and so is ``::1``. Of IPv6 addresses a whole /64 is,
    written ``2001:db8::/64``: it is the least that a customer is given, so whoever has one address
    has 2**64. What this gives, it gives again for itself.
    """
    normal = normalise_host(host)
    address = _address(normal)
    if not isinstance(address, ipaddress.IPv6Address) or address.is_loopback:
        return normal
    return str(ipaddress.IPv6Network((int(address), _COUNTED_BITS), strict=False))


def _address(host: str) -> _IPAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_host(host: str) -> bool:
    """Whether a normalised host is an address without a scope, or a name of LDH labels."""
    if _address(host) is not None:
        return "%" not in host
    labels = host.split(".")
    return (
        len(host) <= _MAX_NAME_LENGTH
        and all(_LABEL.fullmatch(label) for label in labels)
        and not _NUMERIC_LABEL.fullmatch(labels[-1])
    )
