"""What the node does: connections, the pool, broadcasting, answering, following the chain."""
