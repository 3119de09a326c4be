"""Transports: RPC channels that carry encoded messages and know no service."""
