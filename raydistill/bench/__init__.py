"""Benchmarks: ratios measured in one run, a table, and one JSON object as the last line."""
