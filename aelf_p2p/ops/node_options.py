"""The options that describe a node, and the node that they describe."""

import argparse
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from aelf_p2p.chain.chain_file import import_chain_file
from aelf_p2p.chain.kernel import MinimalKernel
from aelf_p2p.chain.memory_store import MemoryChainStore
from aelf_p2p.chain.sqlite_state import open_sqlite_state
from aelf_p2p.chain.sqlite_store import open_sqlite_store
from aelf_p2p.contracts import ChainStore, StateStore, Transport
from aelf_p2p.core.chain_status import LEAST_KEPT_BLOCKS
from aelf_p2p.core.endpoint import MAX_PORT
from aelf_p2p.core.errors import MisuseError
from aelf_p2p.core.identity import Identity
from aelf_p2p.core.options import MAX_REF_BLOCK_AHEAD, NetworkOptions
from aelf_p2p.node import DEFAULT_NODE_VERSION, Node, open_node
from aelf_p2p.ops.arguments import (
    Options,
    add_chain_id,
    endpoint,
    listen_address,
    named_path,
    node_version,
    ntp_server,
    public_key,
    seconds,
    whole_number,
)
from aelf_p2p.ops.passwords import add_key
from aelf_p2p.transports.grpc import GrpcTransport
from aelf_p2p.transports.purerpc import PureRpcTransport
from aelf_p2p.transports.tcp import TcpTransport

log = logging.getLogger(__name__)

MOST = 1_000_000_000
TRANSPORTS = ("grpc", "tcp", "purerpc")


def add_node_options(parser: Options) -> None:
    """Add the options that :func:`open_described_node` reads."""
    defaults = NetworkOptions()
    identity = parser.add_argument_group("who it is")
    add_key(identity)
    add_chain_id(identity)
    identity.add_argument(
        "--node-version",
        type=node_version,
        default=DEFAULT_NODE_VERSION,
        metavar="VERSION",
        help=f"what its handshakes say; below 1.4.0.0 it is an old one ({DEFAULT_NODE_VERSION})",
    )
    network = parser.add_argument_group("its network")
    network.add_argument(
        "--listen",
        type=listen_address,
        default="0.0.0.0:6800",
        metavar="HOST:PORT",
        help="where it listens; port 0 takes any free one (0.0.0.0:6800)",
    )
    network.add_argument(
        "--announce-port",
        type=whole_number(1, MAX_PORT),
        metavar="PORT",
        help="the port that its handshakes name, when others reach it by another one",
    )
    network.add_argument(
        "--boot-node",
        type=endpoint,
        nargs="+",
        action="extend",
        default=[],
        metavar="HOST:PORT",
        dest="boot_nodes",
        help="nodes to connect to at the start; may be repeated",
    )
    add_transport(network)
    network.add_argument(
        "--max-peers",
        type=whole_number(0, MOST),
        default=defaults.max_peers,
        metavar="N",
        help=f"how many peers it takes, half of them inbound; 0: no limit ({defaults.max_peers})",
    )
    network.add_argument(
        "--max-peers-per-host",
        type=whole_number(0, MOST),
        default=defaults.max_peers_per_host,
        metavar="N",
        help=f"of one host, loopback excepted; 0: no limit ({defaults.max_peers_per_host})",
    )
    network.add_argument(
        "--authorized-key",
        type=public_key,
        nargs="+",
        action="extend",
        metavar="HEX",
        dest="authorized_keys",
        help="only nodes with these public keys may connect (everyone may); may be repeated",
    )
    network.add_argument(
        "--ntp-server",
        type=ntp_server,
        metavar="HOST[:PORT]",
        help="warns when the clock is off by over a second from this server's (none, port 123)",
    )
    network.add_argument(
        "--health-check-period",
        type=seconds,
        default=defaults.health_check_period_s,
        metavar="SECONDS",
        help=f"how often every peer is asked whether it lives ({defaults.health_check_period_s:g})",
    )
    network.add_argument(
        "--reconnection-period",
        type=seconds,
        default=defaults.reconnection_period_s,
        metavar="SECONDS",
        help="when a lost peer is first dialed again; the wait doubles with each retry "
        f"({defaults.reconnection_period_s:g})",
    )
    network.add_argument(
        "--discovery-period",
        type=seconds,
        default=defaults.discovery_period_s,
        metavar="SECONDS",
        help=f"how often peers are asked for other nodes ({defaults.discovery_period_s:g})",
    )
    network.add_argument(
        "--dial-private",
        action="store_true",
        help="also dials what strangers name by private addresses or names: for networks of such",
    )
    chain = parser.add_argument_group("its chain")
    chain.add_argument(
        "--data",
        type=named_path,
        metavar="DIR",
        help="keeps the chain, and what it learns of its network, in this directory; without it "
        "both are forgotten at the end",
    )
    chain.add_argument(
        "--keep-blocks",
        type=whole_number(LEAST_KEPT_BLOCKS, MOST),
        metavar="N",
        help="keeps only the last N irreversible blocks, 512 or more, in the directory (all)",
    )
    chain.add_argument(
        "--blocks",
        type=named_path,
        metavar="FILE",
        help="imports this chain file first, as of 'aelf-p2p make-chain'",
    )


def add_transport(parser: Options) -> None:
    """Add ``--transport`` and ``--insecure``."""
    parser.add_argument(
        "--transport",
        choices=TRANSPORTS,
        default="grpc",
        help="grpc is what AElf's nodes speak; tcp is for networks of this program; purerpc is as "
        "grpc, by the package of that name, among nodes that you know (grpc)",
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="without TLS, for benchmarks on one machine: no AElf node speaks that",
    )


def transport_of(options: argparse.Namespace, network: NetworkOptions) -> Transport:
    """The transport that the options name."""
    if options.transport == "tcp":
        return TcpTransport(options=network, tls=not options.insecure)
    if options.transport == "purerpc":
        return PureRpcTransport(options=network, insecure=options.insecure)
    return GrpcTransport(options=network, insecure=options.insecure)


@asynccontextmanager
async def open_described_node(
    options: argparse.Namespace,
    identity: Identity,
    *,
    max_ref_block_ahead: int = MAX_REF_BLOCK_AHEAD,
) -> AsyncIterator[Node]:
    """The node that the options describe, as long as the block runs.

    Raises MisuseError, StoreError, MalformedError for options that cannot be right.
    """
    network = NetworkOptions(
        max_peers=options.max_peers,
        max_peers_per_host=options.max_peers_per_host,
        health_check_period_s=options.health_check_period,
        reconnection_period_s=options.reconnection_period,
        discovery_period_s=options.discovery_period,
        dial_private=options.dial_private,
    )
    async with AsyncExitStack() as opened:
        store: ChainStore
        state: StateStore | None = None
        if options.data is not None:
            store = await opened.enter_async_context(
                open_sqlite_store(
                    options.data, chain_id=options.chain_id, keep_blocks=options.keep_blocks
                )
            )
            state = await opened.enter_async_context(open_sqlite_state(options.data))
        elif options.keep_blocks is not None:
            raise MisuseError("--keep-blocks needs --data")
        else:
            store = MemoryChainStore()
        kernel = MinimalKernel(
            store, chain_id=options.chain_id, max_ref_block_ahead=max_ref_block_ahead
        )
        if options.blocks is not None:
            imported = await import_chain_file(
                options.blocks, kernel, store, chain_id=options.chain_id
            )
            log.info("%s: %d blocks, %d of them new", options.blocks, imported.blocks, imported.new)
        host, port = options.listen
        node = await opened.enter_async_context(
            open_node(
                identity=identity,
                transport=transport_of(options, network),
                chain_id=options.chain_id,
                host=host,
                port=port,
                announce_port=options.announce_port,
                boot_nodes=options.boot_nodes,
                store=store,
                state=state,
                kernel=kernel,
                options=network,
                node_version=options.node_version,
                authorized_keys=frozenset(options.authorized_keys or ()) or None,
                ntp_server=options.ntp_server,
            )
        )
        yield node
