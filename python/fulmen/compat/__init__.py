"""Lets code that was written for Lightning run on fulmen, unchanged.

After `install`, ``lightning``, ``lightning.pytorch``, ``pytorch_lightning``, ``lightning.fabric``, ``lightning_fabric``
and everything below them mean fulmen, whether the real packages are installed or not::

    import fulmen.compat

    fulmen.compat.install()
    from pytorch_lightning import Trainer      # fulmen.Trainer

``fulmen run script.py`` does so for a whole script and the processes that it starts. `aliases` holds the table of names
that live in another place than in Lightning, `finder` the import hook.
"""

from __future__ import annotations

__all__ = ["install", "is_installed", "uninstall"]


def install() -> None:
    """Makes Lightning's package names mean fulmen, from now on. A second call changes nothing.

    Raises:
        RuntimeError: the real Lightning was already imported: its classes and fulmen's would not know each other.
    """
    from fulmen.compat import finder

    finder.install()


def uninstall() -> None:
    """Takes the alias away. Objects that were imported through it stay what they are: fulmen's."""
    from fulmen.compat import finder

    finder.uninstall()


def is_installed() -> bool:
    """Whether the alias is active."""
    from fulmen.compat import finder

    return finder.is_installed()
