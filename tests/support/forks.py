"""Work in a process that is forked for it."""

import os
import warnings
from collections.abc import Callable


def elsewhere(work: Callable[[], object]) -> bool:
    """Whether `work`, in a process that is forked for it, gives something true."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads
        process = os.fork()
    if not process:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(1)  # else a second one of this process would go on
    return os.waitpid(process, 0)[1] == 0
