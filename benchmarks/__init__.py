"""Benchmarks: how fast the project is, beside others that do the same work in the same run."""
