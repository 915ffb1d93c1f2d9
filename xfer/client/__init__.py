"""The side that connects: a channel to a receiver, a job and its attempts, `xfer.send`."""
