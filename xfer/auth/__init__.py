"""Who may come in: keys, the opening in which both sides prove theirs, and where keys are kept."""
