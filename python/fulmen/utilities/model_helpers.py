"""Which hooks are overridden, and which modules are in train mode."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Concatenate, Generic, TypeVar, cast
from unittest.mock import Mock

from torch import nn
from typing_extensions import ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
_P = ParamSpec("_P")
_R = TypeVar("_R", covariant=True)


def is_overridden(method_name: str, instance: object | None = None, parent: type[object] | None = None) -> bool:
    """Whether an object brings its own version of a method.

    The functions' code is compared, so that wrappers (`functools.wraps`, `functools.partial`, ``Mock(wraps=...)``)
    count as what they wrap.

    Args:
        method_name: name of the method.
        instance: the object. None: not overridden.
        parent: class to compare with. None: the one among LightningModule, LightningDataModule and Callback.

    Raises:
        ValueError: no parent is given and the object is none of those, or the parent has no such method.
    """
    if instance is None:
        return False
    if parent is None:
        parent = _base_of(instance)
    own = _unwrapped(getattr(instance, method_name, None))
    if own is None:
        return False
    inherited = getattr(parent, method_name, None)
    if inherited is None:
        raise ValueError(f"The parent should define the method: `{parent.__name__}` has no `{method_name}`.")
    inherited = getattr(inherited, "__wrapped__", inherited)
    return bool(own.__code__ != inherited.__code__)


def _unwrapped(method: Any) -> Any:
    method = getattr(method, "__wrapped__", method)
    if isinstance(method, Mock):
        return method._mock_wraps
    return method.func if isinstance(method, functools.partial) else method


def _base_of(instance: object) -> type:
    # imported here: these classes' modules use this one
    from fulmen.callbacks.callback import Callback
    from fulmen.core.datamodule import LightningDataModule
    from fulmen.core.module import LightningModule

    for base in (LightningModule, LightningDataModule, Callback):
        if isinstance(instance, base):
            return cast(type, base)
    _check_mixed_imports(instance)
    raise ValueError(f"Expected a parent: `{type(instance).__name__}` is no LightningModule, DataModule or Callback.")


def _check_mixed_imports(instance: object) -> None:
    """Raise TypeError for an object made by an installed Lightning, which this package cannot run."""
    for cls in type(instance).__mro__:
        package = cls.__module__.partition(".")[0]
        if package in ("lightning", "pytorch_lightning", "lightning_fabric"):
            raise TypeError(
                f"You passed a `{cls.__module__}` object ({type(instance).__qualname__}) to a `fulmen` function."
                " Switch to a single import style: import it from fulmen, or call `fulmen.compat.install()` before"
                " anything imports Lightning."
            )


class _ModuleMode:
    """Remembers which submodules are in train mode, to restore exactly that."""

    def __init__(self) -> None:
        self.mode: dict[str, bool] = {}

    def capture(self, module: nn.Module) -> None:
        self.mode = {name: submodule.training for name, submodule in module.named_modules()}

    def restore(self, module: nn.Module) -> None:
        for name, submodule in module.named_modules():
            # a submodule that appeared in between keeps its mode
            submodule.training = self.mode.get(name, submodule.training)


class _restricted_classmethod_impl(classmethod, Generic[_T, _P, _R]):  # type: ignore[type-arg]  # a generic subclass of what is none
    """A class method that cannot be called on an instance, where its result would be lost."""

    def __init__(self, method: Callable[Concatenate[type[_T], _P], _R]) -> None:
        super().__init__(method)
        self.method = method

    def __get__(self, instance: _T | None, cls: type[_T] | None = None) -> Callable[_P, _R]:
        owner: type[_T] = type(instance) if cls is None else cls  # type: ignore[assignment]  # of the class that was asked

        @functools.wraps(self.method)
        def bound(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            if instance is not None and not _is_scripting():
                name = f"{owner.__name__}.{self.method.__name__}"
                raise TypeError(
                    f"The classmethod `{name}` cannot be called on an instance. Please call it on the class type and"
                    " make sure the return value is used."
                )
            return self.method(owner, *args, **kwargs)

        bound.__func__ = self.method  # type: ignore[attr-defined]  # a bound method has one
        return bound


def _is_scripting() -> bool:
    """Whether TorchScript's compiler is at work: it touches and calls all members (pytorch #67146)."""
    import sys

    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("torch.jit"):
            return True
        frame = frame.f_back
    return False


if TYPE_CHECKING:
    _restricted_classmethod = classmethod
else:
    _restricted_classmethod = _restricted_classmethod_impl
