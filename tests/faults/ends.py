"""How soon a peer knows that a node is gone, and has it back: ``python -m tests.faults.ends``.

The node is ``aelf-p2p run``, over TLS, with its key and chain in a directory; its peer is in this
process. In turn it is stopped (SIGTERM) and killed (SIGKILL), and started again on its port.
"""

import argparse
import json
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from subprocess import DEVNULL, PIPE
from tempfile import TemporaryDirectory

import trio

from aelf_p2p import GrpcTransport, Identity, NetworkOptions, open_node
from aelf_p2p.core.peer_info import CloseReason
from tests.faults.processes import read_line

PERIOD_S = 1.0
"""Of the reconnection, with the jitter that it has by default."""
PATIENCE_S = 30.0
ENDS = "a stopped node's process ends"
TOLD = "its peer was told goodbye"
LOST = "the peer of a killed one knows"
BACK = f"a killed one that listens again is connected; period {PERIOD_S:g} s"
WANTED_S = {ENDS: 2.0, TOLD: 1.0, LOST: 1.0, BACK: 2 * PERIOD_S}
PROGRAM = str(Path(sys.executable).with_name("aelf-p2p"))


@asynccontextmanager
async def running(directory: Path, at: str) -> AsyncIterator[tuple[trio.Process, str]]:
    """The node, and where it listens, on any port for 0; killed in the end."""
    key = ["--key", str(directory / "key"), "--data", str(directory / "data")]
    command = [PROGRAM, "run", *key, "--listen", at]
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, command, stdout=PIPE, stderr=DEVNULL, check=False)
        process: trio.Process = await nursery.start(run)
        try:
            yield process, json.loads(await read_line(process))["address"]
        finally:
            process.kill()


async def main(rounds: int) -> int:
    """Returns the exit status."""
    took_s: dict[str, list[float]] = defaultdict(list)
    options = NetworkOptions(reconnection_period_s=PERIOD_S)
    with TemporaryDirectory() as name:
        directory = Path(name)
        keygen = [PROGRAM, "keygen", "--no-password", "--out", str(directory / "key")]
        await trio.run_process(keygen, stdout=DEVNULL, stderr=DEVNULL)
        async with open_node(
            identity=Identity.generate(),
            transport=GrpcTransport(),
            host="127.0.0.1",
            port=0,
            options=options,
        ) as node:
            at = "127.0.0.1:0"
            for round_ in range(rounds):
                with trio.fail_after(PATIENCE_S):
                    async with running(directory, at) as (process, at):
                        peer = await node.connect(at)
                        process.send_signal(signal.SIGTERM)
                        began = trio.current_time()
                        await peer.wait_closed()
                        took_s[TOLD].append(trio.current_time() - began)
                        assert peer.close_reason is CloseReason.DISCONNECTED_BY_PEER
                        await process.wait()
                        took_s[ENDS].append(trio.current_time() - began)
                    async with running(directory, at) as (process, _):
                        peer = await node.connect(at)
                        process.kill()
                        began = trio.current_time()
                        await peer.wait_closed()
                        took_s[LOST].append(trio.current_time() - began)
                    async with running(directory, at):
                        began = trio.current_time()
                        with node.subscribe() as events:
                            while node.peer(peer.info.public_key) is None:
                                await anext(events)
                        took_s[BACK].append(trio.current_time() - began)
                        await node.disconnect(peer.info.public_key)
                print(f"{round_ + 1} of {rounds}", file=sys.stderr)
    for what, wanted_s in WANTED_S.items():
        each = took_s[what]
        print(f"{what}: median {median(each):.3f} s, at most {max(each):.3f} s ({wanted_s:g})")
    return int(any(max(took_s[what]) > wanted_s for what, wanted_s in WANTED_S.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.faults.ends", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="how many (%(default)s)")
    sys.exit(trio.run(main, parser.parse_args().rounds))
