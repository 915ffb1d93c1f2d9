"""The receiver's side of a session: files arrive, are committed, and are answered."""
