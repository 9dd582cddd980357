"""Names for classes: what is behind ``AcceleratorRegistry`` and ``StrategyRegistry``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from fulmen import errors


class Registry(dict[str, dict[str, Any]]):
    """Name → class with arguments. Subclasses say what is registered."""

    kind: ClassVar[str] = "class"

    def _add(
        self, name: str, cls: Callable[..., Any] | None, description: str | None, override: bool, init: dict[str, Any]
    ) -> Callable[..., Any]:
        if not isinstance(name, str):
            raise errors.type_error("register(name)", "`name` must be a str", name, "Pass a name in quotes")
        if name in self and not override:
            raise self._taken(name)

        def add(found: Callable[..., Any]) -> Callable[..., Any]:
            self[name] = {
                self.kind: found,
                f"{self.kind}_name": name,
                "description": description if description is not None else "",
                "init_params": init,
            }
            return found

        return add if cls is None else add(cls)

    def _taken(self, name: str) -> Exception:
        return errors.value_error(
            "register(name)",
            "a name that is still free",
            errors.Words(f"'{name}', which is already present in the registry"),
            "HINT: Use `override=True`",
        )

    def get(self, name: str, default: Any | None = None) -> Any:
        """A new instance of what is registered.

        Args:
            name: the name.
            default: returned for an unknown name, unless None.

        Raises:
            KeyError: unknown name, and no default.
        """
        if name in self:
            entry = self[name]
            return entry[self.kind](**entry["init_params"])
        if default is not None:
            return default
        raise errors.key_error(
            f"'{name}' not found in registry. Available names: {', '.join(sorted(self))}", "Use one of them"
        )

    def remove(self, name: str) -> None:
        """Forgets a name.

        Raises:
            KeyError: unknown name.
        """
        del self[name]

    def _listing(self, names: Iterable[str]) -> str:
        return ", ".join(names)


class _AcceleratorRegistry(Registry):
    """The names that ``Trainer(accelerator=...)`` takes.

    Example::

        AcceleratorRegistry.register("sota", SOTAAccelerator, description="new hardware", a=1, b=True)

        @AcceleratorRegistry.register("sota")
        class SOTAAccelerator(Accelerator): ...
    """

    kind = "accelerator"

    def register(
        self,
        name: str,
        accelerator: Callable[..., Any] | None = None,
        description: str = "",
        override: bool = False,
        **init_params: Any,
    ) -> Callable[..., Any]:
        """Adds a name. Without `accelerator`, a decorator.

        Args:
            name: the name.
            accelerator: the class, or a function that returns an instance.
            description: what it is.
            override: replace an entry of this name.
            **init_params: arguments that the class is called with.

        Raises:
            TypeError: the name is no text.
            MisconfigurationException: the name is taken, without `override`.
        """
        return self._add(name, accelerator, description, override, init_params)

    def _taken(self, name: str) -> Exception:
        return errors.misconfiguration(
            "AcceleratorRegistry.register(name)",
            "a name that is still free",
            errors.Words(f"'{name}', which is already present in the registry"),
            "HINT: Use `override=True`",
        )

    def available_accelerators(self) -> set[str]:
        """All names."""
        return set(self)

    def __str__(self) -> str:
        return f"Registered Accelerators: {self._listing(self)}"


AcceleratorRegistry = _AcceleratorRegistry()
