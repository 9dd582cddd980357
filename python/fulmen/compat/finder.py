"""The import hook: a finder for Lightning's package names, and the modules that it makes.

An alias module holds nothing: it looks every name up in the module of fulmen that it stands for (or where the table of
`aliases` says), and hands assignments on to it. Thus objects are the same under every spelling, patching a name under
an alias takes effect, and fulmen's own modules stay untouched by the alias: `uninstall` only has to drop it.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final

from fulmen import errors
from fulmen.compat import aliases, logger_names
from fulmen.compat.distributions import DistributionFinder

_CURE: Final = "`dir({})` shows what is there"


class AliasModule(ModuleType):
    """A module under one of Lightning's names."""

    def __init__(self, name: str, target: str | None, names: dict[str, str]) -> None:
        super().__init__(name)
        # past __setattr__, which hands on
        self.__dict__.update(_alias_target=target, _alias_names=names, _alias_originals={}, __path__=[])
        self.__dict__.pop("__doc__", None)

    def __getattr__(self, name: str) -> Any:
        """Looks the name up where it lives. Called for everything that the import system did not put here itself."""
        if name in self._alias_names:
            return _fetch(self._alias_names[name])
        missing = object()
        target = None if self._alias_target is None else importlib.import_module(self._alias_target)
        value = getattr(target, name, missing)
        if value is missing or isinstance(value, ModuleType):
            value = self._submodule(name, value)
        if value is not missing:
            return value
        if name == "__file__":
            return __file__
        if name == "__all__":
            return sorted(n for n in dir(self) if not n.startswith("_"))
        raise AttributeError(self._missing(name), name=name, obj=self)

    def _submodule(self, name: str, otherwise: Any) -> Any:
        """The alias of a submodule, which in Lightning is there without an import of its own; else `otherwise`."""
        foreign = isinstance(otherwise, ModuleType) and not otherwise.__name__.startswith("fulmen.")
        if foreign or name.startswith("__"):
            return otherwise
        try:
            return importlib.import_module(f"{self.__name__}.{name}")
        except ImportError:
            return otherwise

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, AliasModule) or (name.startswith("__") and name.endswith("__")):
            self.__dict__[name] = value
            return
        owner, attribute = self._place(name)
        if attribute in vars(owner):
            self._alias_originals.setdefault(name, vars(owner)[attribute])
        setattr(owner, attribute, value)

    def __delattr__(self, name: str) -> None:
        if name in self.__dict__:
            del self.__dict__[name]
            return
        owner, attribute = self._place(name)
        if name in self._alias_originals:
            # who patches an alias undoes it by deleting: what was there before comes back
            setattr(owner, attribute, self._alias_originals.pop(name))
        else:
            delattr(owner, attribute)

    def __dir__(self) -> list[str]:
        names = {*self.__dict__, *self._alias_names}
        if self._alias_target is not None:
            names.update(dir(importlib.import_module(self._alias_target)))
        return sorted(name for name in names if not name.startswith("_alias_"))

    def _place(self, name: str) -> tuple[Any, str]:
        """The module in which a name really lives, and its name there."""
        if name in self._alias_names:
            module, _, attribute = self._alias_names[name].partition(":")
            if attribute:
                return importlib.import_module(module), attribute
        if self._alias_target is None:
            raise AttributeError(self._missing(name), name=name, obj=self)
        return importlib.import_module(self._alias_target), name

    def _missing(self, name: str) -> str:
        return (
            f"fulmen has no `{name}` in `{self._alias_target or self.__name__}` (asked for as `{self.__name__}.{name}`)"
        )


def _fetch(place: str) -> Any:
    """The object at "module:attribute", or the text after "=": a constant."""
    if place.startswith("="):
        return place[1:]
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


class _Loader:
    """Makes alias modules."""

    def __init__(self, target: str | None, names: dict[str, str]) -> None:
        self.target, self.names = target, names

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return AliasModule(spec.name, self.target, self.names)

    def exec_module(self, module: ModuleType) -> None:
        if self.target is not None:
            importlib.import_module(self.target)


class AliasFinder:
    """Finds every module under Lightning's package names; those that fulmen lacks do not exist."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The import system's question; None: not ours, or no such module.

        Raises:
            ImportError: a class or private name is imported that fulmen lacks.
        """
        root, _, rest = name.partition(".")
        if root not in aliases.ROOTS:
            return None
        known, module, names = aliases.locate(root, rest)
        if known or (module is not None and _exists(module)):
            loader: Any = _Loader(module, names)
            return importlib.machinery.ModuleSpec(name, loader, is_package=True)
        last = rest.rpartition(".")[2]
        if not last[:1].islower():
            # `from lightning.x import Name` asks for a module of that name as a last resort: here one can say why
            parent = name.rpartition(".")[0]
            raise errors.missing_name(name, module or name, _CURE.format(parent))
        # an alias has no folders (`__path__` is empty): no other finder will answer with a file of the real package
        return None

    def invalidate_caches(self) -> None:
        """Nothing is cached."""


def _exists(module: str) -> bool:
    if module in sys.modules:
        return True
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


_finder: Final = AliasFinder()
_distributions: Final = DistributionFinder()


def is_installed() -> bool:
    """Whether the hook is in place."""
    return _finder in sys.meta_path


def install() -> None:
    """Puts the hook in place. See `fulmen.compat.install`."""
    if is_installed():
        return
    foreign = sorted(name for name, module in sys.modules.items() if _is_foreign(name, module))
    if foreign:
        raise errors.runtime_error(
            f"fulmen.compat.install() came too late: the real {', '.join(foreign[:3])} was already imported",
            "Call it before the first import of `lightning` or `pytorch_lightning`, or use `fulmen run script.py`",
        )
    sys.meta_path.insert(0, _finder)
    # last, so that an installed distribution speaks for itself
    sys.meta_path.append(_distributions)
    logger_names.install()


def uninstall() -> None:
    """Removes the hook and the modules that it made."""
    for finder in (_finder, _distributions):
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
    for name, module in list(sys.modules.items()):
        if isinstance(module, AliasModule):
            del sys.modules[name]
    logger_names.uninstall()


def _is_foreign(name: str, module: Any) -> bool:
    return name.partition(".")[0] in aliases.ROOTS and module is not None and not isinstance(module, AliasModule)
