"""A TCP relay that can be cut: what a node sees when the machine of another one dies."""

import socket
import struct
from contextlib import suppress
from threading import Lock, Thread
from types import TracebackType
from typing import Self

from tests.wire_foreign.journal import WAIT_S

CHUNK_BYTES = 64 * 1024


class Relay:
    """Passes bytes between whoever dials ``port`` and another port, both on 127.0.0.1.

    It counts them before it passes them on.
    """

    def __init__(self, target_port: int) -> None:
        self.bytes_from_dialer = 0
        self.bytes_to_dialer = 0
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = Lock()
        self._sockets: list[socket.socket] = []
        self._passing: list[Thread] = []
        self._acceptor = Thread(target=self._accept, name="relay's acceptor")
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._acceptor.join(WAIT_S)
        self._listener.close()
        self.cut()

    def cut(self, *, reset: bool = False) -> None:
        """End all connections at once: with FIN, or with RST, as a kernel does for a process that
        died with bytes unread."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
            passing, self._passing = self._passing, []
        for each in sockets:
            if reset:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Wakes who reads from it. SHUT_WR would send a FIN before the RST.
            with suppress(OSError):
                each.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
        for thread in passing:
            thread.join(WAIT_S)
            assert not thread.is_alive()
        for each in sockets:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                dialer, _ = self._listener.accept()
            except OSError:
                return
            try:
                target = socket.create_connection(self._target, timeout=WAIT_S)
            except OSError:
                dialer.close()
                continue
            target.settimeout(None)
            both = [
                Thread(target=self._pass, args=(dialer, target, False), name="relay"),
                Thread(target=self._pass, args=(target, dialer, True), name="relay"),
            ]
            with self._lock:
                self._sockets += [dialer, target]
                self._passing += both
                for thread in both:
                    thread.start()

    def _pass(self, source: socket.socket, sink: socket.socket, to_dialer: bool) -> None:
        with suppress(OSError):  # cut, or closed by either end
            while chunk := source.recv(CHUNK_BYTES):
                if to_dialer:
                    self.bytes_to_dialer += len(chunk)
                else:
                    self.bytes_from_dialer += len(chunk)
                sink.sendall(chunk)
            with self._lock:
                if source in self._sockets:  # it ended by itself, and was not cut
                    sink.shutdown(socket.SHUT_WR)
