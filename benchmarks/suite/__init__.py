"""How fast each part of scoring is, and how right beside it: pytest-benchmark, by `pytest benchmarks/suite`."""
