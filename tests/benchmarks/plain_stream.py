"""One plain TCP stream, as a program: what a line can carry at best.

`plain_stream.py sink` says on which port it listens, and answers with one byte at the end;
`plain_stream.py source PORT BYTES` sends so many and waits for that answer.
"""

import socket
import sys
from typing import Final

_CHUNK: Final = bytes(1024 * 1024)


def sink() -> None:
    """Read one connection to its end, and say that it was read."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(f"listening on 127.0.0.1:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
        with listening.accept()[0] as connected:
            while connected.recv(len(_CHUNK)):
                pass
            connected.sendall(b".")


def source(port: int, size: int) -> None:
    """Send `size` bytes, and wait until they were read."""
    with socket.create_connection(("127.0.0.1", port)) as connected:
        for offset in range(0, size, len(_CHUNK)):
            connected.sendall(_CHUNK[: size - offset])
        connected.shutdown(socket.SHUT_WR)
        if connected.recv(1) != b".":
            sys.exit("the connection was lost")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["sink"]:
            sink()
        case ["source", port, size]:
            source(int(port), int(size))
        case _:
            sys.exit(__doc__)
