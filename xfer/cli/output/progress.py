"""What a person sees while files travel: a bar, and sizes and times in words."""

from typing import TextIO

from xfer.names import printable

_NAME_WIDTH = 32
_FORMAT = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {rate_fmt}, {remaining} left{postfix}"
_FORMAT_UNKNOWN = "{n_fmt} {rate_fmt}, {elapsed}{postfix}"


class Bar:
    """One bar for the whole job, with the name of the file that is being sent."""

    def __init__(self, total: int | None, stream: TextIO) -> None:
        """`total` in bytes; None while it is not known."""
        from tqdm import tqdm

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
        self._bar.set_postfix_str(_shortened(printable(name)), refresh=False)

    def sent(self, size: int) -> None:
        self._bar.update(size)

    def note(self, text: str) -> None:
        """Say in the bar what is being waited for."""
        self._bar.set_postfix_str(printable(text))

    def restart(self) -> None:
        """Everything counts again: what is there already will be skipped over."""
        self._bar.reset()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.write(line, file=self._bar.fp)

    def close(self) -> None:
        self._bar.close()


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else "…" + name[1 - _NAME_WIDTH :]
