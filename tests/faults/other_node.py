"""A node in a process of its own, to be stopped, killed, cut off and flooded.

``python -m tests.faults.other_node HOST [OPTION=NUMBER ...]``, with options of ``NetworkOptions``,
says where it listens, and lives until its input ends.
"""

import sys
from typing import Any

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
    _, chosen_host, *pairs = sys.argv
    numbers: dict[str, Any] = {
        name: int(number) for name, number in (pair.split("=") for pair in pairs)
    }
    trio.run(main, chosen_host, NetworkOptions(**numbers))
