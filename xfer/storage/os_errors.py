"""What the other side is told of the operating system's errors: a code and a sentence, no paths."""

import errno

from xfer.errors import Code, Refused


def refusal(error: OSError) -> Refused:
    """The refusal that stands for `error`; raise it `from error`, so that the log has that, too."""
    code, message = _REASONS.get(
        error.errno or 0, (Code.STORAGE, "the receiver could not store it; its log says why")
    )
    return Refused(message, code=code)


def reading_refusal(error: OSError) -> Refused:
    """The refusal for a failure to read what is stored."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return Refused("the receiver may not read it", code=Code.STORAGE)
    if error.errno in _REASONS:
        return refusal(error)
    return Refused("the receiver's disk failed", code=Code.STORAGE)


_REASONS: dict[int, tuple[Code, str]] = {
    errno.ENOSPC: (Code.NO_SPACE, "no space left on the receiver's disk"),
    errno.EDQUOT: (Code.QUOTA, "the receiver's disk quota is used up"),
    errno.EFBIG: (Code.TOO_LARGE, "too large for the receiver's file system"),
    errno.ENAMETOOLONG: (Code.BAD_NAME, "the name is too long for the receiver's file system"),
    errno.EILSEQ: (Code.BAD_NAME, "the receiver's file system cannot hold this name"),
    errno.EINVAL: (Code.BAD_NAME, "the receiver's file system cannot hold this name"),
    errno.EMFILE: (Code.BUSY, "the receiver has too many files open"),
    errno.ENFILE: (Code.BUSY, "the receiver has too many files open"),
    errno.EROFS: (Code.STORAGE, "the receiver's directory is read-only"),
    errno.EACCES: (Code.STORAGE, "the receiver may not write there"),
    errno.EPERM: (Code.STORAGE, "the receiver may not write there"),
    errno.EXDEV: (Code.STORAGE, "the receiver keeps another file system there"),
    errno.EISDIR: (Code.EXISTS, "a directory has this name on the receiver"),
    errno.ENOTDIR: (Code.EXISTS, "something that is no directory is in the way on the receiver"),
    errno.ELOOP: (Code.EXISTS, "a symbolic link is in the way on the receiver"),
}
