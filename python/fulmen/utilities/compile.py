"""Compiled modules: the names that users of ``torch.compile`` look for."""

from fulmen.core.compiled import from_compiled, to_uncompiled

__all__ = ["from_compiled", "to_uncompiled"]
