"""Lightning's path for `fulmen.precision`."""

from fulmen.precision import *  # noqa: F403 (every name: which they are is said there)
from fulmen.precision import __all__ as __all__
