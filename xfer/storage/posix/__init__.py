"""Files, links and directories of a POSIX file system, named relative to open directories."""
