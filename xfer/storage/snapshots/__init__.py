"""Snapshots: which names a run has sent, with what content, kept beside the plain files.

    manifest   what one snapshot is: gzip of JSON lines; `lines` has what a line may be
    runs       what a run has confirmed so far, before it is a snapshot; `run_lines` reads it
    commit     from a run to a manifest, once; `given_up`: from one whose client is gone
    catalog    which snapshots there are, and what is in them
    locate     where the content of a line is now
    contents   what this needs of the store that has the files

How a manifest is made: `making` puts it in its place, in the directory of its `job`;
`draft` writes it, `comparing` it with the one before, `digesting` what was skipped unread
(`hashing`), and `gone` moves names that are there no more.

Beside these: `places` (where it all is in DIR/.xfer), `stamps`, `tally`, `sorting`, `gzip_lines`.
"""
