"""What receiving one very large reply takes of memory, in one of our nodes."""

import trio

from benchmarks.download_chain import make_large_chain
from benchmarks.download_ours import Expected, connected, download, serve
from benchmarks.memory_use import peak_bytes, resident_bytes
from benchmarks.our_nodes import answer_each
from benchmarks.worker import Parent


async def _run(parent: Parent) -> None:
    """Serve; or connect and download once, as it is asked: the encoding. The answer is what was
    resident before, and what was at most, in bytes."""
    transport, tls, port = map(parent.setup.get, ("transport", "tls", "port"))
    if port is None:
        await serve(parent, transport, make_large_chain(**parent.setup["chain"]), tls=tls)
        return
    expected = Expected(**parent.setup["expected"])
    encoding = parent.setup["encoding"]
    async with connected(transport, port, expected, encoding, tls=tls) as peer:

        async def receive(_question: object) -> tuple[int, int]:
            before = resident_bytes()
            await download(peer, expected)
            return before, peak_bytes()

        parent.send("connected")
        await answer_each(parent, receive)


if __name__ == "__main__":
    trio.run(_run, Parent())
