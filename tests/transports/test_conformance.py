"""Our transports conform, and transports that do not are found out."""

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from aelf_p2p.contracts import Transport
from aelf_p2p.core.errors import CallFailedError, StatusCode
from aelf_p2p.testing.conformance import (
    CASES,
    ConformanceCase,
    ConformanceError,
    MemoryFixture,
    SocketFixture,
    run_case,
    run_conformance,
)
from aelf_p2p.transports.grpc import GrpcTransport
from aelf_p2p.transports.memory import MemoryConnection, MemoryHub, _End
from aelf_p2p.transports.memory_pipe import MemoryPipe
from aelf_p2p.transports.tcp import TcpTransport

MEMORY = "aelf_p2p.transports.memory"


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("case", CASES, ids=str)
def test_memory_conforms(case: ConformanceCase) -> None:
    run_case(MemoryFixture(), case)


SOCKETS = {
    "grpc": SocketFixture(GrpcTransport),
    "tcp": SocketFixture(TcpTransport),
    "tcp-plain": SocketFixture(partial(TcpTransport, tls=False)),
}


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("transport", SOCKETS)
def test_sockets_conform(transport: str, case: ConformanceCase) -> None:
    run_case(SOCKETS[transport], case)


@pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no ::1")
@pytest.mark.parametrize("make", [GrpcTransport, TcpTransport])
@pytest.mark.parametrize("name", ["a_call_makes_its_round_trip", "port_zero_is_any_free_port"])
def test_sockets_speak_ipv6(make: Callable[[], Transport], name: str) -> None:
    [case] = [case for case in CASES if case.name == name]
    run_case(SocketFixture(make, host="::1"), case)


def test_results_list_every_case() -> None:
    results = run_conformance(MemoryFixture())
    assert [result.name for result in results] == [case.name for case in CASES]
    assert [result for result in results if not result.passed or result.error is not None] == []


def test_each_case_has_its_name_and_says_what_it_proves() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert len({case.proves for case in CASES}) == len(CASES)
    assert str(CASES[0]) == CASES[0].name


# --- transports that do not conform ---------------------------------------------------------------


class UnboundedPipe(MemoryPipe):
    def __init__(self) -> None:
        super().__init__(window_bytes=1 << 62)


class ForgetfulPipe(MemoryPipe):
    """Loses its 700th message."""

    _count = 0

    def _put(self, message: bytes) -> None:
        self._count += 1
        if self._count != 700:
            super()._put(message)


class ShufflingPipe(MemoryPipe):
    def _take(self) -> list[bytes]:
        return super()._take()[::-1]


class ClumpingPipe(MemoryPipe):
    """Cuts the bytes elsewhere than between the messages."""

    def _take(self) -> list[bytes]:
        messages = super()._take()
        return [b"".join(messages)] if messages else []


class DeafPipe(MemoryPipe):
    """Never gives anything to its reader."""

    async def receive_many(self) -> list[bytes]:
        while await super().receive_many():
            pass
        return []


class NaggingPipe(MemoryPipe):
    """Gives up on a sender instead of letting it wait."""

    async def send_many(self, messages: Sequence[bytes]) -> None:
        if self.unread_bytes > 128 * 1024:
            raise CallFailedError(StatusCode.RESOURCE_EXHAUSTED)
        await super().send_many(messages)


class PipeFixture(MemoryFixture):
    """The memory transport over another kind of pipe."""

    def __init__(self, make_pipe: Callable[[], MemoryPipe]) -> None:
        self._make_pipe = make_pipe

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Transport, Transport]]:
        class Hub(MemoryHub):
            def make_pipe(hub, sender: str, receiver: str) -> MemoryPipe:
                return self._make_pipe()

        hub = Hub()
        yield hub.transport(self.server_host), hub.transport(self.client_host)


def failed(fixture: MemoryFixture) -> set[str]:
    return {result.name for result in run_conformance(fixture) if not result.passed}


@pytest.mark.parametrize(
    ("make_pipe", "found_by"),
    [
        (
            UnboundedPipe,
            {
                "a_client_waits_for_the_reader",
                "a_handler_waits_for_the_reader",
                "a_cancelled_sender_leaves_the_stream_whole",
                "a_stalled_stream_stalls_no_other",
            },
        ),
        (ForgetfulPipe, {"order_is_kept_both_ways", "many_in_one_go"}),
        (ShufflingPipe, {"order_is_kept_both_ways", "many_in_one_go", "a_server_ends_well"}),
        (ClumpingPipe, {"order_is_kept_both_ways", "many_in_one_go"}),
        (DeafPipe, {"a_call_makes_its_round_trip", "a_client_ends_its_half"}),
        (NaggingPipe, {"a_client_waits_for_the_reader", "a_handler_waits_for_the_reader"}),
    ],
)
def test_a_faulty_stream_is_found(make_pipe: Callable[[], MemoryPipe], found_by: set[str]) -> None:
    assert found_by <= failed(PipeFixture(make_pipe))


def test_a_channel_that_never_closes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryConnection, "is_open", True)
    assert failed(MemoryFixture()) == {
        "is_open_tells_whether_calls_can_be_made",
        "wait_draining_tells_of_a_stop",
    }


SIZE_CASES = {
    "a_request_over_the_limit_ends_its_call",
    "a_reply_over_the_limit_ends_its_call",
    "a_limit_can_be_moved",
    "a_stream_has_its_methods_limit",
    "a_strange_client_may_send_64_kib",
    "a_strange_server_may_send_64_kib",
    "a_unary_call_has_its_methods_limits",
}


def test_a_transport_without_limits_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MEMORY}.max_request_bytes", lambda *method: 1 << 62)
    monkeypatch.setattr(f"{MEMORY}.max_reply_bytes", lambda *method: 1 << 62)
    monkeypatch.setattr(f"{MEMORY}.before_trust", lambda method, most, options: most)
    monkeypatch.setattr(f"{MEMORY}._End.limit_messages", lambda self, most: None)
    assert failed(MemoryFixture()) == SIZE_CASES


def test_a_transport_that_trusts_everyone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MEMORY}.before_trust", lambda method, most, options: most)
    assert failed(MemoryFixture()) == {
        "a_strange_client_may_send_64_kib",
        "a_strange_server_may_send_64_kib",
    }


def test_a_transport_that_trusts_nobody_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MEMORY}._End.trust", lambda self: None)
    assert {
        "a_large_message_passes",
        "a_strange_client_may_send_64_kib",
        "a_strange_server_may_send_64_kib",
    } <= failed(MemoryFixture())


def test_a_transport_that_sends_anything_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MEMORY}.MAX_MESSAGE_BYTES", 1 << 62)
    assert failed(MemoryFixture()) == {"a_message_over_100_mib_is_not_sent"}


@pytest.mark.parametrize("off_by", [-1, 1])
def test_a_limit_that_is_off_by_one_is_found(off_by: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def limit_messages(self: _End, max_bytes: int) -> None:
        self.max_bytes = self.trusted_max_bytes = max_bytes + off_by

    monkeypatch.setattr(_End, "limit_messages", limit_messages)
    assert {
        "a_request_over_the_limit_ends_its_call",
        "a_reply_over_the_limit_ends_its_call",
        "a_limit_can_be_moved",
        "a_stream_has_its_methods_limit",
    } <= failed(MemoryFixture())


def test_a_transport_that_never_tells_of_an_end_is_found() -> None:
    class SilentPipe(MemoryPipe):
        def fail(self, error: object, **kwargs: object) -> None:
            """The other side is never told."""

    found = failed(PipeFixture(SilentPipe))
    assert {
        "a_server_that_stops_ends_every_wait",
        "a_server_that_stops_ends_a_blocked_send",
        "a_server_ends_with_a_status",
        "leaving_early_cancels_the_handler",
    } <= found


def test_a_transport_that_leaves_handlers_running_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MEMORY}._Call.abort", lambda *errors: None)
    assert {
        "a_client_that_vanishes_cancels_its_handlers",
        "a_deadline_ends_both_sides",
        "a_cancelled_call_cancels_its_handler",
        "leaving_early_cancels_the_handler",
        "leaving_by_an_exception",
    } <= failed(MemoryFixture())


def test_a_hang_is_an_error_that_says_so() -> None:
    class StuckPipe(MemoryPipe):
        async def _wait_readable(self) -> None:
            await trio.sleep_forever()

    [case] = [case for case in CASES if case.name == "a_server_ends_well"]
    with pytest.raises(ConformanceError, match="a_server_ends_well hangs"):
        run_case(PipeFixture(StuckPipe), case)
    [result] = [r for r in run_conformance(PipeFixture(StuckPipe)) if r.name == case.name]
    assert not result.passed
    assert result.error is not None
    assert "hangs" in result.error
