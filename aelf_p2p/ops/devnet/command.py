"""``aelf-p2p devnet``: real nodes as processes, over real sockets, following one chain."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import trio

from aelf_p2p.core.errors import AelfP2PError, MisuseError
from aelf_p2p.core.single_error import each_error
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.ops.arguments import Commands, seconds, whole_number
from aelf_p2p.ops.devnet.chains import compare, read_chain
from aelf_p2p.ops.devnet.processes import NodeProcess, open_devnet
from aelf_p2p.ops.devnet.report import Report
from aelf_p2p.ops.devnet.scenario import Plan, drive
from aelf_p2p.ops.exit_status import DONE, FAILED, of_signal
from aelf_p2p.ops.node_options import add_transport
from aelf_p2p.ops.signals import ended_by_signals
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
            "One node joins late and downloads the chain; one is killed (-9) halfway and comes "
            "back. Ends with status 0 when all directories then hold the same chain, checked anew, "
            "with every transaction."
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
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="a new directory for the nodes' keys, data and logs; without it they are in a "
        "temporary one, which is left behind only when something goes wrong",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the network, print what happens, and return the exit status."""
    directory = _make_directory(options.data)
    report = Report()
    status: int = trio.run(_run, options, directory, report)
    if report.faults:
        print(f"the nodes' data and logs are in {directory}", file=sys.stderr)
    elif options.data is None:
        shutil.rmtree(directory)
    return status


def _make_directory(path: Path | None) -> Path:
    if path is None:
        return Path(tempfile.mkdtemp(prefix="aelf-p2p-devnet-"))
    try:
        path.mkdir(parents=True)
    except FileExistsError as error:
        raise MisuseError(f"{path}: exists already; the nodes need a new directory") from error
    except OSError as error:
        raise MisuseError(f"{path}: {error.strerror}") from error
    return path


async def _run(options: argparse.Namespace, directory: Path, report: Report) -> int:
    known = {vector.id: vector.raw for vector in load_vectors().transactions}
    plan = Plan(
        options.nodes,
        options.blocks,
        options.block_interval,
        [Transaction.parse_untrusted(raw) for raw in known.values()],
    )
    shared = ["--transport", options.transport, *(["--insecure"] if options.insecure else [])]
    nodes = [NodeProcess(index, directory, shared) for index in range(plan.nodes)]
    began = trio.current_time()
    print(
        f"{plan.nodes} nodes over {options.transport}, {plan.blocks} blocks, "
        f"{len(known)} transactions",
        flush=True,
    )
    async with ended_by_signals() as ended:
        try:
            async with open_devnet(nodes) as network:
                await drive(network, plan, report)
            chains = [await read_chain(node.data) for node in nodes]
            compare(chains, plan.blocks, frozenset(known), report)
        except* AelfP2PError as group:
            report.faults += map(str, each_error(group))
        report.summarise(nodes, trio.current_time() - began)
    if ended.by is not None:
        print("interrupted", file=sys.stderr)
        return of_signal(ended.by)
    return FAILED if report.faults else DONE
