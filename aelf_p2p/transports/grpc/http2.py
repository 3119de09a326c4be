"""h2 as we use it: with our limits from the first frame on, and lenient where the C core is."""

import logging
from collections.abc import Iterable

import h2.events as e
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hpack import Decoder, HeaderTuple

from aelf_p2p.core.options import KIB
from aelf_p2p.transports.net.limits import WireLimits

MAX_HEADER_LIST_BYTES = 16 * KIB
ENCODER_TABLE_BYTES = 4 * KIB
"""HTTP/2's initial size. Whatever more the other side allows is not used: hpack searches the table
entry by entry for each header."""

# hpack logs every header, session ids among them, and those are never logged.
logging.getLogger("hpack").setLevel(logging.INFO)


class Http2(H2Connection):
    """One connection, greeted; headers are bytes."""

    MAX_CLOSED_STREAMS = 4096  # h2 remembers how streams ended; its own 65,536 weigh 8 MB

    def __init__(self, limits: WireLimits, *, is_client: bool) -> None:
        super().__init__(H2Configuration(client_side=is_client, header_encoding=None))
        self.decoder = _LenientDecoder()
        self.decoder.max_header_list_size = MAX_HEADER_LIST_BYTES
        self.local_settings = Settings(
            client=is_client,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.MAX_CONCURRENT_STREAMS: limits.max_calls,
                SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST_BYTES,
                SettingCodes.INITIAL_WINDOW_SIZE: limits.call_window_bytes,
            },
        )
        self.initiate_connection()

    def bound_their_settings(self, event: e.RemoteSettingsChanged) -> None:
        """Settings of the other side cost us nothing."""
        for code in event.changed_settings:
            if not isinstance(code, SettingCodes):  # h2 would keep them all, 0.8 KiB each
                self.remote_settings.pop(code, None)
        self.encoder.header_table_size = min(self.encoder.header_table_size, ENCODER_TABLE_BYTES)


class _LenientDecoder(Decoder):
    """The C core sends text as it is, and h2 ends the connection for a space at either end of it
    (RFC 9113 §8.2.1); those spaces mean nothing in HTTP."""

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """Always raw, as h2 asks for."""
        headers = super().decode(data, raw=True)
        return [type(header)(header[0], header[1].strip(b" \t")) for header in headers]
