"""What every node computes in: the table of precisions, their policies, and the measuring that completes them.

In: traced float32 graphs and calibration images. Out: typed graphs and the policy each follows. Imports tracing,
passes, scenes and the runtime's contract. `policy` alone is free of torch and onnx, for the command line.
"""
