"""One job over several connections."""
