"""Benchmarks: assignment and weight matching beside their alternatives, in one run."""
