"""This computer: its processor, what a container leaves of it, versions of libraries.

In: files of the system, metadata of packages. Out: facts as plain data. Imports nothing of ours; loads no library.
"""
