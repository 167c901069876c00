"""What this project measures: one program, `python -m benchmarks`, with a row in `registry` for each benchmark."""
