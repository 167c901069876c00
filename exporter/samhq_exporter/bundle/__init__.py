"""A bundle on disk: graphs saved, folders that appear whole or not at all.

In: typed graphs. Out: files in a staging folder, renamed when complete. Imports passes (the CPU form)
and the runtime.
"""
