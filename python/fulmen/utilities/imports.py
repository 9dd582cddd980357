"""Flags about the environment. Each is worked out when it is asked for, so that importing this costs nothing."""

from __future__ import annotations

import functools
import importlib.util
import platform
import sys
from collections.abc import Callable
from typing import Any

import torch

_PYTHON_GREATER_EQUAL_3_10_0 = sys.version_info >= (3, 10)
_PYTHON_GREATER_EQUAL_3_11_0 = sys.version_info >= (3, 11)
_IS_WINDOWS = platform.system() == "Windows"
_IS_INTERACTIVE = hasattr(sys, "ps1") or bool(sys.flags.interactive)


@functools.cache
def package_available(name: str) -> bool:
    """Whether a package (``"rich"``) or module (``"a.b"``) can be found; it is not imported, its parents are."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


@functools.cache
def requirement_available(requirement: str) -> bool:
    """Whether an installed distribution meets a requirement such as ``"rich>=10.2.2"``."""
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import Requirement

    wanted = Requirement(requirement)
    try:
        return wanted.specifier.contains(version(wanted.name), prereleases=True)
    except PackageNotFoundError:
        return not wanted.specifier and package_available(wanted.name)


def torch_version() -> tuple[int, int, int]:
    """Major, minor and patch number of torch."""
    major, minor, patch = torch.__version__.split("+")[0].split(".")[:3]
    return int(major), int(minor), int("".join(c for c in patch[:2] if c.isdigit()) or 0)


# flag -> distribution and requirement; those of torch follow from their name
_REQUIREMENTS = {
    "_NUMPY_AVAILABLE": "numpy",
    "_OMEGACONF_AVAILABLE": "omegaconf",
    "_RICH_AVAILABLE": "rich>=10.2.2",
    "_TORCHVISION_AVAILABLE": "torchvision",
    "_TORCHMETRICS_GREATER_EQUAL_0_8_0": "torchmetrics>=0.8.0",
    "_TORCHMETRICS_GREATER_EQUAL_0_9_1": "torchmetrics>=0.9.1",
    "_TORCHMETRICS_GREATER_EQUAL_0_11": "torchmetrics>=0.11.0",
    "_TORCHMETRICS_GREATER_EQUAL_1_0_0": "torchmetrics>=1.0.0",
}
_COMPARISONS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    "_TORCH_GREATER_EQUAL_": lambda have, want: have >= want,
    "_TORCH_LESS_EQUAL_": lambda have, want: have <= want,
    "_TORCH_EQUAL_": lambda have, want: have[: len(want)] == want,
}


def __getattr__(name: str) -> Any:
    if name in _REQUIREMENTS:
        return requirement_available(_REQUIREMENTS[name])
    for prefix, compare in _COMPARISONS.items():
        if name.startswith(prefix):
            return compare(torch_version(), tuple(map(int, name.removeprefix(prefix).split("_"))))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
