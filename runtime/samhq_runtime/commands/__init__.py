"""The subcommands of `samhq`, one file each.

In: argv. Out: a call of the library, its results on stdout, an exit code. Imports every other room, when a command
runs; only `cli`, and the exporter's, import this one.
"""
