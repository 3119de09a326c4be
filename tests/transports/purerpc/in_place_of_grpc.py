"""A plugin of pytest: what is written for our grpc transport runs on purerpc's.

That one cannot even be made beside purerpc's h2, so no test passes by using it after all. What
would use neither is left out: it is run with the other tests.
"""

import pytest

import aelf_p2p
from aelf_p2p.transports import grpc
from aelf_p2p.transports.grpc import transport as grpc_transport
from aelf_p2p.transports.purerpc import PureRpcTransport

for module in aelf_p2p, grpc, grpc_transport:
    vars(module)["GrpcTransport"] = PureRpcTransport

FOREIGN_ALONE = {"test_foreign_node.py", "test_foreign_unary.py"}
"""Both ends of these are foreign."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests of other transports, and those without a node of ours."""
    left_out = [each for each in items if not _is_ours(each)]
    items[:] = [each for each in items if _is_ours(each)]
    config.hook.pytest_deselected(items=left_out)


def _is_ours(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)  # of a test with parameters
    transport = "grpc" if callspec is None else callspec.params.get("transport", "grpc")
    return transport == "grpc" and item.path.name not in FOREIGN_ALONE
