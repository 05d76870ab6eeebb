"""Benchmarks: modules that measure one thing each and print JSON lines; `docs/benchmarks` is made of these.

Run from the root of a source checkout: ``python -m examples.benchmarks.aggregators --help``.
"""
