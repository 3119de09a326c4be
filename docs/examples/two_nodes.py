"""Two nodes in one trio application: connect, broadcast a transaction, mine and follow a block."""

import trio

from aelf_p2p import (
    BlockAccepted,
    Identity,
    MemoryChainStore,
    MemoryHub,
    MinimalKernel,
    Transaction,
    TransactionAccepted,
    open_node,
)
from aelf_p2p.testing.vectors import load_vectors


async def main() -> None:
    hub = MemoryHub()
    alice_key, bob_key = Identity.generate(), Identity.generate()
    alice_store, bob_store = MemoryChainStore(), MemoryChainStore()
    # Real transactions refer to blocks far above those of a chain that has just begun.
    alice_kernel = MinimalKernel(alice_store, chain_id="AELF", max_ref_block_ahead=1 << 62)
    bob_kernel = MinimalKernel(bob_store, chain_id="AELF", max_ref_block_ahead=1 << 62)
    async with (
        open_node(
            identity=alice_key,
            transport=hub.transport("alice"),
            store=alice_store,
            kernel=alice_kernel,
        ) as alice,
        open_node(
            identity=bob_key,
            transport=hub.transport("bob"),
            boot_nodes=["alice:6800"],
            store=bob_store,
            kernel=bob_kernel,
        ) as bob,
    ):
        await bob.wait_initialized()
        print("bob's peer:", bob.peers()[0].info)

        with alice.subscribe() as alice_events, bob.subscribe() as bob_events:
            # Bob's kernel checks the transaction, and the network brings it to alice's.
            transaction = Transaction.parse_untrusted(load_vectors().transactions[0].raw)
            bob_kernel.submit_transaction(transaction)
            async for event in alice_events:
                if isinstance(event, TransactionAccepted):
                    break

            # Alice makes a block of it, and the network brings that to bob's.
            await alice_kernel.mine_block(alice_key)
            async for event in bob_events:
                if isinstance(event, BlockAccepted):
                    print("bob accepted block", event.block.height)
                    print("it holds", event.block.transaction_ids[0].hex())
                    break


if __name__ == "__main__":
    trio.run(main)
