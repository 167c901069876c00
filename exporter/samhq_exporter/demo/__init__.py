"""A small SAM-HQ model for tests and first steps: its weights, the script that trained it, and how good it is.

In: scenes. Out: `sam_hq_demo.safetensors` and `results.json`. Imports model, scenes, weights, verification and the
runtime; nothing that exports imports this room.
"""
