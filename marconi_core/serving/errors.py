"""Errors of live serving."""

from marconi_core.errors import MarconiError


class ServingError(MarconiError):
    """A server cannot be started, died, or answered wrongly; the message has the way out."""


class BundleError(MarconiError):
    """The offline environment cannot be packed or unpacked; the message names the file."""


class BuildError(MarconiError):
    """A server's wheels cannot be built; the message names the file."""


class ReplayError(MarconiError):
    """A replay cannot be done as asked for; the message names the option or the file."""
