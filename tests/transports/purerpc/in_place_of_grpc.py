"""A plugin of pytest: what is written for our grpc transport runs on purerpc's.

That one cannot even be made beside purerpc's h2, so no test passes by using it after all.
"""

import aelf_p2p
from aelf_p2p.transports import grpc
from aelf_p2p.transports.grpc import transport
from aelf_p2p.transports.purerpc import PureRpcTransport

for module in aelf_p2p, grpc, transport:
    vars(module)["GrpcTransport"] = PureRpcTransport
