"""Snapshots: which names a run has sent, with what content, kept beside the plain files.

    manifest   what one snapshot is: gzip of JSON lines; `lines` has what a line may be
    runs       what a run has confirmed so far, before it is a snapshot; `run_lines` reads it

Beside these: `places` (where it all is in DIR/.xfer), `stamps`, `tally`, `sorting`, `gzip_lines`.
"""
