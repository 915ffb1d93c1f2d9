"""Where files are kept: the contract, what every kind of store shares, and each kind."""
