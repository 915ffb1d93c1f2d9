"""Plain values: addresses, sizes, defaults, and where this user's files are."""
