"""Errors a user can cause and mend. Each carries one message: what is wrong, where, and the way out."""


def shown(value: object) -> str:
    """Return a value as messages show it: cut where it gets long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


class MarconiError(Exception):
    """Base of all errors that end a command with one line instead of a traceback."""


class ConfigError(MarconiError):
    """A configuration file or command-line option is wrong; the message names the key."""


class DataError(MarconiError):
    """A data set cannot be fetched or fails its check; the message names the file and its source."""


class TraceError(MarconiError):
    """A trace is malformed; the message names the file and line."""


class PolicyError(MarconiError):
    """An unknown policy, or a simulation asked for with impossible settings."""


class ModelError(MarconiError):
    """A model description is unknown, broken, or outside what the formulas support."""


class StorageError(MarconiError):
    """A file cannot be written: the disk is full, or the folder read-only; the message names it."""


class ReleaseError(MarconiError):
    """A release cannot be made: something is not committed, or a package cannot be had."""
