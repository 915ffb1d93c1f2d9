"""What travels: frames, messages and bodies, over a socket with or without TLS. Knows no disk."""
