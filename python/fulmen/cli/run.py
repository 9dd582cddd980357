"""Runs a script as ``python script.py`` does, with the alias in place.

Python processes that the script starts get the alias too, at their first import of ``lightning`` or
``pytorch_lightning``: a folder with a ``sitecustomize`` is put in front of ``PYTHONPATH``, which every child inherits,
however it is started (spawned workers, fork servers, ``subprocess``, launchers). Hooks into `multiprocessing` alone
would miss half of these. The folder's module runs the environment's own ``sitecustomize`` as well, and removes itself
from ``sys.path``.
"""

from __future__ import annotations

import io
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final

import fulmen.compat

CHILD_FOLDER: Final = str(Path(__file__).resolve().parent / "child")
_OWN_FILES: Final = frozenset({__file__, runpy.__file__, "<frozen runpy>"})


def run_script(script: str, arguments: Sequence[str]) -> int:
    """Runs a file, or a folder or archive with a ``__main__.py``.

    Args:
        script: its path.
        arguments: for its ``sys.argv``.

    Returns:
        The exit status: 0, or 2 if there is no such file.
    """
    path = Path(script)
    if not path.exists():
        print(f"fulmen run: can't open file {os.path.abspath(script)!r}: no such file", file=sys.stderr)
        return 2
    _prepare(script, arguments, script if path.is_dir() else str(path.resolve().parent))
    if path.is_dir() or _is_archive_or_compiled(path):
        return _guarded(lambda: runpy.run_path(script, run_name="__main__"))
    return _guarded(lambda: _execute(script))


def run_module(module: str, arguments: Sequence[str]) -> int:
    """Runs a module, as ``python -m`` does.

    Args:
        module: its name.
        arguments: for its ``sys.argv``.

    Returns:
        The exit status: 0, or 1 if there is no such module.
    """
    # the name is replaced by the file's path when the module is found
    _prepare("-m", arguments, os.getcwd())
    import importlib.util

    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        print(f"fulmen run: no module named {module}", file=sys.stderr)
        return 1
    return _guarded(lambda: runpy.run_module(module, run_name="__main__", alter_sys=True))


def _prepare(script: str, arguments: Sequence[str], folder: str) -> None:
    """Sets the alias, ``sys.argv``, ``sys.path`` and the environment of children."""
    fulmen.compat.install()
    paths = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and p != CHILD_FOLDER]
    os.environ["PYTHONPATH"] = os.pathsep.join([CHILD_FOLDER, *paths])
    sys.argv[:] = [script, *arguments]
    if not getattr(sys.flags, "safe_path", False):
        # the first entry is this command's own: the working directory (python -m), or the folder of the console script
        sys.path[0] = folder


def _execute(script: str) -> None:
    """Runs a source file as the module ``__main__``, which stays there for pickles and for threads that go on."""
    with io.open_code(os.path.abspath(script)) as file:
        source = file.read()
    module = ModuleType("__main__")
    file_name = os.path.abspath(script)
    module.__dict__.update(__file__=file_name, __builtins__=__builtins__, __cached__=None)
    sys.modules["__main__"] = module
    code = compile(source, file_name, "exec", dont_inherit=True)
    exec(code, module.__dict__)


def _is_archive_or_compiled(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4)
    return path.suffix == ".pyc" or start[:2] == b"PK"


def _guarded(action: Any) -> int:
    """Runs `action`; an exception that nobody caught is shown without the frames of this module."""
    try:
        action()
    except SystemExit:
        raise
    except BaseException:
        _hide_own_frames()
        raise
    return 0


def _hide_own_frames() -> None:
    show = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        visible = traceback
        while visible is not None and not _is_users(visible):
            visible = visible.tb_next
        # a syntax error in the script itself has no frame of the user's
        shown = visible if visible is not None else None
        show(kind, error.with_traceback(shown), shown)

    sys.excepthook = hook


def _is_users(traceback: TracebackType) -> bool:
    file = traceback.tb_frame.f_code.co_filename
    own = Path(__file__).parent
    return file not in _OWN_FILES and file not in (str(own / "main.py"), str(own.parent / "__main__.py"))
