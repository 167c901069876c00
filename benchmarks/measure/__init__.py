"""One module per benchmark, named as its row in `benchmarks.registry`."""
