"""The receiver's side of a session. Knows no socket, no terminal and no kind of store."""
