"""Peers: the Peer contract over an RPC channel."""
