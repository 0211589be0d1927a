"""The plug-in's errors: each says what is wrong and the way out."""

from marconi_core.errors import MarconiError


class UnsupportedSetting(MarconiError):  # noqa: N818 - reads as what it is
    """The server is asked for something that Marconi does not support."""


class HookError(MarconiError):
    """SGLang did not take a hook, so that the plug-in would not do what it says."""
