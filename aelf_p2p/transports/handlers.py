"""Running a handler: how it ended is how its call ends, and nothing else of it leaves the node."""

import logging

import trio

from aelf_p2p.contracts import CallHandler, IncomingCall
from aelf_p2p.core.errors import CallFailedError, StatusCode, TransportError

log = logging.getLogger(__name__)

Outcome = tuple[StatusCode, str]
"""A status and its details."""


async def run_handler(
    handler: CallHandler, call: IncomingCall, scope: trio.CancelScope
) -> Outcome | None:
    """Run it in ``scope``; None when it was cancelled there, and so has nobody to tell."""
    try:
        with scope:
            await handler(call)
            return StatusCode.OK, ""
    except CallFailedError as exc:
        return exc.code, exc.details
    except Exception as exc:  # whatever a handler does, its neighbours live on
        if not (isinstance(exc, TransportError) and scope.cancel_called):
            log.exception("the handler of %s failed", call.method.name)
        return StatusCode.UNKNOWN, ""
    except BaseExceptionGroup as group:
        # It failed in several tasks while it was cancelled: only the cancellation goes on.
        failures, others = group.split(Exception)
        if failures is not None:
            log.error("the handler of %s failed", call.method.name, exc_info=failures)
        if others is not None:
            raise others from None
        return StatusCode.UNKNOWN, ""
    return None
