"""Distribution metadata under Lightning's names, for packages that ask for a version instead of importing a module.

Where the real distributions are installed, they answer for themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from fulmen.compat.version import LIGHTNING_VERSION

if TYPE_CHECKING:
    from importlib.metadata import Distribution

NAMES: Final = ("lightning", "pytorch-lightning", "lightning-fabric")


class DistributionFinder:
    """The part of `sys.meta_path` that `importlib.metadata` asks for distributions."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Never finds a module."""

    def find_distributions(self, context: Any = None) -> Iterable[Distribution]:
        """The aliased distributions that the context asks for by name; none where all are listed."""
        asked = getattr(context, "name", None)
        normalised = asked.lower().replace("_", "-").replace(".", "-") if asked else None
        return [_make(name) for name in NAMES if name == normalised]


def _make(name: str) -> Distribution:
    from importlib.metadata import Distribution

    class AliasDistribution(Distribution):
        """What fulmen says in the name of Lightning's distributions."""

        def read_text(self, filename: str) -> str | None:
            """The metadata; there are no other files."""
            if filename != "METADATA":
                return None
            return f"Metadata-Version: 2.1\nName: {name}\nVersion: {LIGHTNING_VERSION}\nSummary: fulmen in its place\n"

        def locate_file(self, path: Any) -> Any:
            """A path below fulmen's own folder."""
            return os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), os.fspath(path))

    return AliasDistribution()
