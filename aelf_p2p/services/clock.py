"""Watching the node's clock: handshakes are refused when it is wrong by more than 1.5 s."""

import logging

import trio

from aelf_p2p.contracts import DatagramQuery
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import MalformedError, TransportError
from aelf_p2p.core.network_events import ClockDrift
from aelf_p2p.core.sntp import NONCE_BYTES, encode_request, parse_reply_untrusted
from aelf_p2p.services.context import NetworkContext

log = logging.getLogger(__name__)


async def watch_clock(context: NetworkContext, server: Endpoint, query: DatagramQuery) -> None:
    """Check the clock now and then every ``clock_check_period_s``, until cancelled."""
    while True:
        await check_clock(context, server, query)
        await trio.sleep(context.options.clock_check_period_s)


async def check_clock(
    context: NetworkContext, server: Endpoint, query: DatagramQuery
) -> float | None:
    """Ask a time server once, and warn of a drift over ``max_clock_drift_s`` (protocol §4).

    Returns what its clock shows more than ours, in seconds, or None when it did not tell. That is
    not our fault nor a failure: a node runs without.
    """
    options, environment = context.options, context.environment
    nonce = environment.rng.randbytes(NONCE_BYTES)
    try:
        with trio.fail_after(options.clock_check_timeout_s):
            reply = await query(server, encode_request(nonce), wall_ns=environment.wall_ns)
        reading = parse_reply_untrusted(
            reply.payload, nonce=nonce, sent_ns=reply.sent_ns, received_ns=reply.received_ns
        )
    except trio.TooSlowError:
        log.info("the time server %s did not answer", server)
        return None
    except (TransportError, MalformedError) as exc:
        log.info("the time server %s did not help: %s", server, exc)
        return None
    drift_s = reading.offset_s
    is_wrong = abs(drift_s) > options.max_clock_drift_s
    log.log(
        logging.WARNING if is_wrong else logging.INFO,
        "this clock is %.3f s %s that of %s (±%.3f s)",
        abs(drift_s),
        "behind" if drift_s > 0 else "ahead of",
        server,
        abs(reading.round_trip_s) / 2,
    )
    if is_wrong:
        context.events.publish(ClockDrift(drift_s))
    return drift_s
