"""Where what is sent comes from: trees of files, standard input. Knows no wire and no store."""
