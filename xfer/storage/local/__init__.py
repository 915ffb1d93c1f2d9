"""A directory on this machine as a store."""
