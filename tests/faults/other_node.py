"""A node in a process of its own, to be stopped, killed, cut off and flooded.

``python -m tests.faults.other_node HOST [MAX_PEERS]`` says where it listens, and lives until its
input ends.
"""

import sys

import trio

from aelf_p2p import GrpcTransport, Identity, NetworkOptions, open_node


async def main(host: str, options: NetworkOptions) -> None:
    """Open it, and print the port."""
    async with open_node(
        identity=Identity.generate(), transport=GrpcTransport(), host=host, port=0, options=options
    ) as node:
        print(node.endpoint.port, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


if __name__ == "__main__":
    _, chosen_host, *most = sys.argv
    limits = NetworkOptions(max_peers=int(most[0])) if most else NetworkOptions()
    trio.run(main, chosen_host, limits)
