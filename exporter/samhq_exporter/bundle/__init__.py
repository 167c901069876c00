"""A bundle on disk: graphs and manifest written, in folders that appear whole or not at all.

In: typed graphs and their checkpoint. Out: files in a staging folder, renamed when complete. Imports precision,
weights, tracing and the runtime.
"""
