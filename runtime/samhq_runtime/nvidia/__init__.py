"""Facts about NVIDIA parts: GPUs, TensorRT's flavours and messages, what an engine was built for and with.

In: manifest entries, libraries, the driver. Out: data and error messages. Below sessions, which run engines, and
below `engine`, which builds them; imports neither.
"""
