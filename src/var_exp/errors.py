"""Mistakes that a user can mend.

Imports nothing heavy, so that a command answers at once.
"""


class VarExpError(Exception):
    """A mistake the user can mend; its text is the sentence that is shown, ending in the fix."""


class ConfigError(VarExpError):
    """The configuration names something that does not exist or does not fit together."""


class UnsupportedModel(VarExpError):  # noqa: N818 (reads as what it says where it is raised)
    """The method cannot act on this model, and would silently compute something else."""


class OutOfMemory(VarExpError):  # noqa: N818
    """Not even one image at a time fits into memory."""


class MissingWeights(VarExpError):  # noqa: N818
    """The weights of a model cannot be had, or the file that should hold them does not."""


class BadData(VarExpError):  # noqa: N818
    """A data set is missing, empty, or holds what cannot be read."""


class AlreadyFinished(VarExpError):  # noqa: N818
    """The folder holds a finished run, which is never overwritten."""


class CannotWrite(VarExpError):  # noqa: N818
    """The disk is full, or a folder may not be written."""


class Unreadable(BadData):
    """One sample cannot be read, and the run is to go on without it (`data.on_error=skip`)."""
