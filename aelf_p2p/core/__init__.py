"""What the protocol decides: synchronous and pure, with time and randomness passed in."""
