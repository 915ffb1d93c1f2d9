"""Snapshots: which names a run has sent, with what content, kept beside the plain files.

    manifest   what one snapshot is: gzip of JSON lines; `lines` has what a line may be

Beside it: `stamps`, `tally`, `sorting`, `gzip_lines`.
"""
