"""Whoever dials: connecting, a job with its attempts, and sending as a library offers it."""
