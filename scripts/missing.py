"""Print the requirements of pyproject.toml that this interpreter's environment does not satisfy: missing.py EXTRA...

Run with the environment's own Python. Works in a bare environment: a TOML reader and a parser for requirements come
with pip if they are not there otherwise.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

try:
    import tomllib
except ImportError:  # Python 3.10
    try:
        import tomli as tomllib
    except ImportError:
        from pip._vendor import tomli as tomllib
try:
    from packaging.requirements import Requirement
except ImportError:
    from pip._vendor.packaging.requirements import Requirement


def wanted(project: dict[str, Any], extras: list[str]) -> list[str]:
    """Requirements of the project with these extras; an extra that names the project again is followed."""
    found = list(project["dependencies"])
    for extra in extras:
        for text in project["optional-dependencies"][extra]:
            requirement = Requirement(text)
            found += wanted(project, sorted(requirement.extras)) if requirement.name == project["name"] else [text]
    return list(dict.fromkeys(found))


def satisfied(requirement: Requirement, extra: str = "") -> bool:
    """Whether the installed version fits, or the requirement does not concern this platform."""
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
        return True
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


if __name__ == "__main__":
    project = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text())["project"]
    for text in wanted(project, sys.argv[1:]):
        if not satisfied(Requirement(text)):
            print(text)
