"""The yardstick: xfer beside rsync, scp and tar on one machine. `python -m tests.benchmarks`.

Linux only, and nothing outside the standard library but matplotlib, for `--plot`.

`works` are what is sent, `xfers`, `peers` and `ssh` are who sends it, `rounds` lets them take
turns, `report` and `plot` show what came out, and `latency` does the same on a slow line.
"""
