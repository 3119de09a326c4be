"""``aelf-p2p run``: a node."""

import argparse
import json
import logging
from dataclasses import dataclass

import trio

from aelf_p2p.core.errors import AelfP2PError
from aelf_p2p.core.identity import Identity
from aelf_p2p.core.single_error import each_error
from aelf_p2p.node import Node
from aelf_p2p.ops.arguments import Commands
from aelf_p2p.ops.exit_status import DONE, FAILED
from aelf_p2p.ops.logs import add_log_level, configure_logging
from aelf_p2p.ops.node_options import add_node_options, open_described_node
from aelf_p2p.ops.output import say, tell
from aelf_p2p.ops.passwords import identity_of
from aelf_p2p.ops.signals import Ending, ended_by_signals

log = logging.getLogger(__name__)

STATUS_PERIOD_S = 60.0
SYNCING_STATUS_PERIOD_S = 5.0


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "run",
        help="run a node",
        description=(
            "Run a node until SIGINT or SIGTERM. When it listens it says so in one line of JSON on "
            "stdout; what it does is logged to stderr."
        ),
    )
    add_node_options(parser)
    add_log_level(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the node; returns the exit status. Raises what keeps it from listening."""
    configure_logging(options.log_level)
    identity = identity_of(options)
    life = _Life()
    status = DONE
    try:
        with ended_by_signals() as ending:
            trio.run(_live, options, identity, life, ending)
    except* AelfP2PError as group:
        if not life.listens:
            raise
        for error in each_error(group):
            say(f"aelf-p2p run: the node ended: {error}")
        status = FAILED
    return status


@dataclass
class _Life:
    """How far a node came."""

    listens: bool = False


async def _live(
    options: argparse.Namespace, identity: Identity, life: _Life, ending: Ending
) -> None:
    with ending.cancels():
        async with open_described_node(options, identity) as node:
            tell(listening_line(node))
            life.listens = True
            while True:
                await trio.sleep(STATUS_PERIOD_S if node.sync.finished else SYNCING_STATUS_PERIOD_S)
                log.info("%s", _told(node))


def _told(node: Node) -> str:
    """How things stand."""
    status, peers = node.store.status, node.peers()
    inbound = sum(peer.info.inbound for peer in peers)
    progress = node.sync.state.name.lower().replace("_", " ")
    if node.sync.target:
        progress += f" to {node.sync.target}"
    return (
        f"height {status.best_height}, irreversible {status.lib_height}, sync {progress}; "
        f"peers: {inbound} inbound, {len(peers) - inbound} outbound"
    )


def listening_line(node: Node) -> str:
    """What tells a program that started this one where the node listens, and who it is."""
    return json.dumps(
        {
            "event": "listening",
            "address": str(node.endpoint),
            "public_key": node.public_key.hex(),
        }
    )
