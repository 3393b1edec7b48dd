"""Helpers for the tests and benchmarks."""
