"""The sender's side of a session. Knows no terminal, no store and no address."""
