"""A node in a process of its own, to be stopped, killed and cut off: ``python -m
tests.faults.other_node HOST``. It says where it listens, and lives until its input ends."""

import sys

import trio

from aelf_p2p import GrpcTransport, Identity, open_node


async def main(host: str) -> None:
    """Open it, and print the port."""
    async with open_node(
        identity=Identity.generate(), transport=GrpcTransport(), host=host, port=0
    ) as node:
        print(node.endpoint.port, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
