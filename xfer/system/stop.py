"""The word that it is time to stop, for whoever waits for something else."""

import os


class Interrupted(Exception):
    """The stop signal was set while somebody waited, or before."""


class StopSignal:
    """Set once, from any thread; whoever polls can wait for it beside a socket."""

    def __init__(self) -> None:
        self.is_set = False
        self.descriptor, self._held_open = os.pipe()

    def set(self) -> None:
        """Wake everybody: the end of the pipe is something to read."""
        if not self.is_set:
            self.is_set = True
            os.close(self._held_open)

    def close(self) -> None:
        self.set()
        os.close(self.descriptor)
