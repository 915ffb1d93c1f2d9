"""A receiver as a program that runs for years: signals, workers, units, and a check beforehand."""
