"""A bundle behind the Open Inference Protocol (KServe v2), over gRPC and HTTP, in one process.

`runner` starts it; `service` is what both protocols talk to; `scheduler` and `worker` batch prompts of the same image.
"""
