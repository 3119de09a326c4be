"""``aelf-p2p devnet``: real nodes as processes, over real sockets, following one chain."""

import argparse
from pathlib import Path

import trio

from aelf_p2p.core.errors import AelfP2PError
from aelf_p2p.core.single_error import each_error
from aelf_p2p.ops.arguments import Commands, seconds, whole_number
from aelf_p2p.ops.devnet.chains import compare, read_chain
from aelf_p2p.ops.devnet.directory import add_data, open_directory
from aelf_p2p.ops.devnet.processes import NodeProcess, open_devnet
from aelf_p2p.ops.devnet.report import Report
from aelf_p2p.ops.devnet.scenario import Plan, drive
from aelf_p2p.ops.exit_status import status_of
from aelf_p2p.ops.node_options import add_transport
from aelf_p2p.ops.output import tell
from aelf_p2p.ops.real_transactions import real_transactions
from aelf_p2p.ops.signals import Ending, ended_by_signals
from aelf_p2p.testing.vectors import load_vectors


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "devnet",
        help="run a network of nodes on this machine",
        description=(
            "Run a network of nodes, each a process with a key and a data directory of its own, "
            "over real sockets on loopback. Connected in a ring, they follow the chain of one "
            "producer, who makes blocks out of real AElf transactions that other nodes broadcast. "
            "After a third of the blocks one node joins late and downloads the chain; after half "
            "of them one is killed (-9), which comes back after three quarters. Ends with "
            "status 0 when all directories then hold the same chain, checked anew, with every "
            "transaction."
        ),
    )
    parser.add_argument(
        "--nodes", type=whole_number(4, 100), default=7, metavar="N", help="4 to 100 (7)"
    )
    parser.add_argument(
        "--blocks",
        type=whole_number(10, 100_000),
        default=200,
        metavar="N",
        help="at least 10 (200)",
    )
    parser.add_argument(
        "--block-interval",
        type=seconds,
        default=0.25,
        metavar="SECONDS",
        help="the pause before each block (0.25)",
    )
    add_transport(parser)
    add_data(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the network, print what happens, and return the exit status."""
    report = Report()
    with open_directory(options.data, report.faults) as directory, ended_by_signals() as ending:
        trio.run(_run, options, directory, report, ending)
    return status_of(ending.by, failed=bool(report.faults))


async def _run(
    options: argparse.Namespace, directory: Path, report: Report, ending: Ending
) -> None:
    known_ids = frozenset(vector.id for vector in load_vectors().transactions)
    plan = Plan(options.nodes, options.blocks, options.block_interval, real_transactions())
    shared = ["--transport", options.transport, *(["--insecure"] if options.insecure else [])]
    nodes: list[NodeProcess] = []
    began = trio.current_time()
    tell(
        f"{plan.nodes} nodes over {options.transport}, {plan.blocks} blocks, "
        f"{len(known_ids)} transactions"
    )
    with ending.cancels():
        try:
            nodes += (NodeProcess(index, directory, shared) for index in range(plan.nodes))
            async with open_devnet(nodes) as network:
                await drive(network, plan, report)
            chains = [await read_chain(node.data) for node in nodes]
            compare(chains, plan.blocks, known_ids, report)
        except* AelfP2PError as group:
            # one that breaks down ends all, and whoever waits for it says so too
            report.faults += dict.fromkeys(map(str, each_error(group)))
        report.summarise(nodes, trio.current_time() - began)
