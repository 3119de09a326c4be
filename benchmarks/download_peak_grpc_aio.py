"""What receiving the same reply takes on grpc.aio, parsed with protobuf."""

import asyncio

from benchmarks.aio_peer import answer_each
from benchmarks.download_chain import make_large_chain
from benchmarks.download_grpc_aio import connected, serve
from benchmarks.download_ours import Expected
from benchmarks.memory_use import peak_bytes, resident_bytes
from benchmarks.worker import Parent


async def _run(parent: Parent) -> None:
    """As ``download_peak_ours`` does."""
    tls, port = map(parent.setup.get, ("tls", "port"))
    if port is None:
        await serve(parent, make_large_chain(**parent.setup["chain"]), tls=tls)
        return
    async with connected(port, Expected(**parent.setup["expected"]), tls=tls) as downloader:

        async def receive(_question: object) -> tuple[int, int]:
            before = resident_bytes()
            await downloader.download(parent.setup["encoding"], hashing=False)
            return before, peak_bytes()

        parent.send("connected")
        await answer_each(parent, receive)


if __name__ == "__main__":
    asyncio.run(_run(Parent()))
