"""``aelf-p2p devnet``: a network of node processes on this machine."""
