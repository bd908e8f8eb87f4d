"""dspex: the platform for programs made of language-model calls."""

from dspex._version import __version__

__all__ = ["__version__"]
