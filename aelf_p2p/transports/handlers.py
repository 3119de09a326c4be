"""Running a handler: how it ended is how its call ends, and nothing else of it leaves the node."""

import logging

import trio

from aelf_p2p.contracts import CallHandler, IncomingCall
from aelf_p2p.core.errors import CallFailedError, StatusCode, TransportError
from aelf_p2p.core.single_error import each_error

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
        _log_failure(call, exc, scope)
        return StatusCode.UNKNOWN, ""
    except BaseExceptionGroup as group:
        # It failed in several tasks while it was cancelled: only the cancellation goes on.
        failures, others = group.split(Exception)
        if failures is not None:
            _log_failure(call, failures, scope)
        if others is not None:
            raise others from None
        return StatusCode.UNKNOWN, ""
    return None


def _log_failure(call: IncomingCall, failure: Exception, scope: trio.CancelScope) -> None:
    """Unless it is but the end of the call, seen by several tasks of the handler or by one."""
    if scope.cancel_called and all(isinstance(e, TransportError) for e in each_error(failure)):
        return
    log.error("the handler of %s failed", call.method.name, exc_info=failure)
