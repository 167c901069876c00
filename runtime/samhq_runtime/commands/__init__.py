"""The subcommands of `samhq`, one file each: argv in, the library called, tables on stdout.

A file adds its parser in `add_command` and imports what it runs when it runs. Nothing of the library imports this room.
"""
