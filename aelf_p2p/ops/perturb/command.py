"""``aelf-p2p perturb``: real nodes as processes; they are killed, paused, cut off, restarted."""

import argparse
import random
from pathlib import Path

import trio

from aelf_p2p.core.errors import AelfP2PError
from aelf_p2p.core.single_error import each_error
from aelf_p2p.ops.arguments import Commands, seconds, seed, whole_number
from aelf_p2p.ops.devnet.chains import compare_tips, read_chain
from aelf_p2p.ops.devnet.directory import add_data, open_directory
from aelf_p2p.ops.devnet.processes import NodeProcess, open_devnet
from aelf_p2p.ops.exit_status import status_of
from aelf_p2p.ops.node_options import add_transport
from aelf_p2p.ops.output import tell
from aelf_p2p.ops.perturb.faults import LEAST_NODES, Kind, plan_faults
from aelf_p2p.ops.perturb.links import Links
from aelf_p2p.ops.perturb.report import Report
from aelf_p2p.ops.perturb.scenario import Plan, Scenario
from aelf_p2p.ops.real_transactions import real_transactions
from aelf_p2p.ops.signals import Ending, ended_by_signals

RECONNECTION_PERIOD_S = 1.0
MOST_NODES = 50
"""Each takes up to a dozen of the driver's descriptors, of which it has 1024 as a rule."""


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "perturb",
        help="run a network of nodes on this machine under faults",
        description=(
            "Run a network of nodes, each a process with a key and a data directory of its own, "
            "over real sockets on loopback, and inflict faults on them while they make blocks: "
            "nodes are killed (-9) and started again, paused, cut off from all others, and "
            "restarted. Which, when and for how long comes from one seed. Ends with status 0 when "
            "all nodes are at one height soon after the last fault, stop with status 0, and have "
            "left the same chain on the disk, checked anew."
        ),
    )
    parser.add_argument(
        "--nodes",
        type=whole_number(LEAST_NODES, MOST_NODES),
        default=10,
        metavar="N",
        help=f"{LEAST_NODES} to {MOST_NODES} (10)",
    )
    parser.add_argument(
        "--faults",
        type=whole_number(len(Kind), 10_000),
        default=20,
        metavar="N",
        help=f"at least {len(Kind)}, one of each kind (20)",
    )
    parser.add_argument(
        "--seed",
        type=seed,
        default=1,
        metavar="N",
        help="of the faults, and of who dials whom (1)",
    )
    parser.add_argument(
        "--block-interval",
        type=seconds,
        default=0.5,
        metavar="SECONDS",
        help="the pause before each block (0.5)",
    )
    parser.add_argument(
        "--deadline",
        type=seconds,
        default=20.0,
        metavar="SECONDS",
        help="how long after the last fault all nodes are to be at one height (20)",
    )
    add_transport(parser)
    add_data(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the network, print what becomes of it, and return the exit status."""
    report = Report()
    with (
        open_directory(options.data, report.failures) as directory,
        ended_by_signals() as ending,
    ):
        trio.run(_run, options, directory, report, ending)
    return status_of(ending.by, failed=bool(report.failures))


async def _run(
    options: argparse.Namespace, directory: Path, report: Report, ending: Ending
) -> None:
    rng = random.Random(f"perturb/{options.seed}")
    plan = Plan(
        plan_faults(options.nodes, options.faults, rng),
        options.block_interval,
        options.deadline,
        real_transactions(),
    )
    shared = ["--transport", options.transport, *(["--insecure"] if options.insecure else [])]
    shared += ["--reconnection-period", f"{RECONNECTION_PERIOD_S}"]
    began = trio.current_time()
    tell(
        f"{options.nodes} nodes over {options.transport}, {len(plan.faults)} faults, "
        f"seed {options.seed}"
    )
    with ending.cancels():
        try:
            nodes = [NodeProcess(index, directory, shared) for index in range(options.nodes)]
            links = Links(nodes, rng)
            async with open_devnet(nodes) as network, trio.open_nursery() as nursery:
                await nursery.start(links.run)
                await Scenario(network, links, plan, report, rng).drive()
                nursery.cancel_scope.cancel()
            await _check_what_is_left(nodes, report)
        except* AelfP2PError as group:
            # one that breaks down ends all, and whoever waits for it says so too
            report.failures += dict.fromkeys(map(str, each_error(group)))
        report.summarise(trio.current_time() - began)


async def _check_what_is_left(nodes: list[NodeProcess], report: Report) -> None:
    chains = [await read_chain(node.data) for node in nodes]
    height = max(node.status.height for node in nodes)
    report.chains = compare_tips(chains, height, report.failures)
    held = frozenset.intersection(*(chain.transaction_ids for chain in chains))
    # Pools are not on the disk: what a node alone had is lost when it is killed, and is no failure.
    report.transactions = f"{len(held)} of {len(report.submitted)} in every chain"
    if unknown := held - report.submitted:
        report.failures.append(f"{len(unknown)} transactions have ids that are not known")
    report.read_logs(node.log for node in nodes)
