"""What `python -m benchmarks peers` compares: each contender runs in a process of its own, on one scene."""
