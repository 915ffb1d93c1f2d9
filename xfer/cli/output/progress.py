"""The progress bar that a person sees on a terminal."""

from typing import TextIO

from xfer.names import printable

_NAME_WIDTH = 32
_FORMAT = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {rate_fmt}, {remaining} left{postfix}"
_FORMAT_UNKNOWN = "{n_fmt} {rate_fmt}, {elapsed}{postfix}"


class Bar:
    """One bar for the whole job, with the name of the file that is being sent."""

    def __init__(self, total: int | None, stream: TextIO) -> None:
        """`total` in bytes, None if it is not known. `stream` is a terminal."""
        from tqdm import tqdm  # slow to load, and needed on a terminal only

        self._bar = tqdm(
            total=total,
            file=stream,
            unit="iB",
            unit_scale=True,
            unit_divisor=1024,
            leave=False,
            dynamic_ncols=True,
            bar_format=_FORMAT_UNKNOWN if total is None else _FORMAT,
        )

    def sending(self, name: str) -> None:
        """Show this name from the next time on that the bar is drawn."""
        self._bar.set_postfix_str(_shortened(printable(name)), refresh=False)

    def advance(self, size: int) -> None:
        """So many more bytes are done: sent, or with the receiver already."""
        self._bar.update(size)

    def note(self, text: str) -> None:
        """Show at once, in place of a name, what is being waited for."""
        self._bar.set_postfix_str(printable(text))

    def restart(self) -> None:
        """Begin at 0 for another attempt: it counts what is there already as done, too."""
        self._bar.reset()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.write(line, file=self._bar.fp)

    def close(self) -> None:
        self._bar.close()


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else "…" + name[1 - _NAME_WIDTH :]
