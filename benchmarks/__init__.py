"""What the node costs, beside what its peers cost: `make bench`, or `python -m benchmarks.NAME`."""
