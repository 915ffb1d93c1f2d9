"""Whoever answers: listening, admission, connections, and a receiver made of them."""
