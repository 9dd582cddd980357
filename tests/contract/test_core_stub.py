"""The types of the compiled core say what the core has."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import fulmen
from fulmen import _core

STUB = ast.parse((Path(fulmen.__file__).parent / "_core.pyi").read_text())
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")}
FUNCTIONS = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}


def members(node: ast.ClassDef) -> set[str]:
    found = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
    return found | {
        item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }


def arguments(node: ast.FunctionDef) -> list[str]:
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def test_same_names() -> None:
    built = {name for name in vars(_core) if not name.startswith("_")}
    assert built == set(CLASSES) | set(FUNCTIONS)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_same_members(name: str) -> None:
    built = {member for member in vars(getattr(_core, name)) if not member.startswith("_")}
    assert built == {member for member in members(CLASSES[name]) if not member.startswith("_")}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_same_arguments(name: str) -> None:
    built = getattr(_core, name)
    for node in CLASSES[name].body:
        if not isinstance(node, ast.FunctionDef) or any(
            isinstance(mark, ast.Name) and mark.id == "property" for mark in node.decorator_list
        ):
            continue
        if node.name == "__new__":
            signature = inspect.signature(built)
        elif node.name.startswith("_"):
            continue
        else:
            signature = inspect.signature(getattr(built, node.name))
        assert [n for n in signature.parameters if n != "self"] == arguments(node), node.name


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions(name: str) -> None:
    assert list(inspect.signature(getattr(_core, name)).parameters) == arguments(FUNCTIONS[name])
