"""What `benchmarks/peers.py` compares: each contender runs in a process of its own, on one scene."""
