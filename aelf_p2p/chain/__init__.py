"""Stores of blocks, and the minimal kernel that decides what goes into them."""
