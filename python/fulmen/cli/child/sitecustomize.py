"""Run at the start of every Python process that a script under ``fulmen run`` starts (see `fulmen.cli.run`).

It costs next to nothing there: the alias, and with it torch, is only loaded at the first import of one of Lightning's
names. A Python without fulmen goes on as if this file did not exist.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

_ROOTS = ("lightning", "pytorch_lightning", "lightning_fabric")
_HERE = os.path.dirname(os.path.abspath(__file__))


class _FirstImport:
    """Waits for the first import of one of Lightning's packages, and then lets fulmen's finder answer."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> Any:
        if name not in _ROOTS:
            return None
        sys.meta_path.remove(self)
        try:
            import fulmen.compat
        except ModuleNotFoundError as error:
            if error.name != "fulmen":
                raise
            return None
        fulmen.compat.install()
        return importlib.util.find_spec(name)


def _run_the_other_one() -> None:
    """The environment's own ``sitecustomize``, which this one hides."""
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


sys.meta_path.insert(0, _FirstImport())
_run_the_other_one()
