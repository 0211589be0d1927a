"""Errors a user can cause and mend. Each carries one message: what is wrong, where, and the way out."""


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
