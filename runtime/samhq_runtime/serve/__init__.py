"""A bundle behind the Open Inference Protocol (KServe v2), over gRPC and HTTP, in one process.

`runner` starts it; `service` is what both protocols talk to, `loaded` the bundle behind it; `scheduler` and `worker`
batch prompts of the same image.

In: requests. Out: answers, by one signature for both protocols. Imports bundle, predictor, frames and masks.
"""
