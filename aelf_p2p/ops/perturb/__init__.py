"""``aelf-p2p perturb``: a network of node processes on this machine, under faults."""
