"""`samhq bench`: time, memory and energy of bundles on this machine; numpy alone, Linux first.

Elsewhere than on Linux the peak memory is that of the whole process, loading included, and clocks, power modes and
energy are not reported (NVIDIA GPUs excepted).

In: bundles, providers and sizes. Out: a result file, tables, a plot, the comparison of two files. Imports bundle,
predictor and what they stand on; no session but through them.
"""
