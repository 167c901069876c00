"""The commands of `samhq-export`, a module each: options, what runs, and what is printed.

In: parsed options. Out: tables on stdout, progress on stderr. Imports whatever room it shows, late: options and help
need neither torch nor onnx.
"""
