"""What `xfer send` says, to a terminal or to a script."""
