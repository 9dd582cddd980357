"""The command `fulmen`."""

import os
import subprocess
import sys

import pytest

from fulmen.cli.main import main

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def fulmen(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "fulmen", *arguments], capture_output=True, text=True, env=ENVIRONMENT, **options
    )


@pytest.mark.parametrize(
    ("arguments", "status", "stream", "text"),
    [
        ([], 2, "out", "usage: fulmen run"),
        (["--help"], 0, "out", "usage: fulmen run"),
        (["run", "-h"], 0, "out", "usage: fulmen run"),
        (["--version"], 0, "out", "API of Lightning 2.6.6"),
        (["run"], 2, "err", "which script"),
        (["run", "-m"], 2, "err", "which module"),
        (["run", "--fast"], 2, "err", "unknown option '--fast'"),
        (["train.py"], 2, "err", "Did you mean `fulmen run train.py`?"),
        (["fit"], 2, "err", "fulmen fit is not available"),
        (["run", "missing.py"], 2, "err", "missing.py"),
    ],
)
def test_command_lines(arguments, status, stream, text, capsys):
    assert main(arguments) == status
    assert text in getattr(capsys.readouterr(), stream)


SCRIPT = '''"""The script's own text."""
import os, subprocess, sys, threading
import beside
import pytorch_lightning as pl

class Picklable:
    pass

def show():
    import pickle
    print(__name__, __doc__, sys.argv, os.path.abspath(sys.path[0]), pl.Trainer.__module__, beside.VALUE)
    print(type(pickle.loads(pickle.dumps(Picklable()))) is Picklable, sys.modules["__main__"].__dict__ is globals())
    print("__spec__", __spec__, "file", __file__)

if __name__ == "__main__":
    if sys.argv[1:] == ["raise"]:
        raise KeyError("mine")
    if sys.argv[1:] == ["exit"]:
        sys.exit(7)
    if sys.argv[1:] == ["child"]:
        paths = "print([p for p in sys.path if 'child' in p])"
        code = f"import sys; {paths}; import lightning; print(lightning.Trainer.__module__)"
        sys.exit(subprocess.run([sys.executable, "-c", code]).returncode)
    if sys.argv[1:] == ["quiet child"]:
        code = "import sys; print('torch' in sys.modules, 'fulmen' in sys.modules)"
        sys.exit(subprocess.run([sys.executable, "-c", code]).returncode)
    show()
'''


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "script.py").write_text(SCRIPT)
    (folder / "beside.py").write_text("VALUE = 42\n")
    return folder


def test_a_script_runs_as_under_python(project):
    done = fulmen("run", "project/script.py", "a", "--help", "-m", cwd=project.parent)
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    arguments = ["project/script.py", "a", "--help", "-m"]
    assert first == f"__main__ The script's own text. {arguments} {project} fulmen.trainer.trainer 42"
    assert second == "True True"
    assert third == f"__spec__ None file {project / 'script.py'}"


def test_a_module_runs_as_under_python_m(project):
    done = fulmen("run", "-m", "script", "a", cwd=project)
    assert done.returncode == 0, done.stderr
    first, _, third = done.stdout.splitlines()
    assert first.startswith(
        f"__main__ The script's own text. ['{project / 'script.py'}', 'a'] {project} fulmen.trainer"
    )
    assert "name='script'" in third
    done = fulmen("run", "-m", "no_such_module", cwd=project)
    assert done.returncode == 1 and "no module named no_such_module" in done.stderr


def test_exceptions_show_the_users_frames_only(project):
    done = fulmen("run", "script.py", "raise", cwd=project)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1 and lines[-1] == "KeyError: 'mine'"
    line = 1 + SCRIPT.splitlines().index('        raise KeyError("mine")')
    frames = [text for text in lines if text.lstrip().startswith("File")]
    assert frames == [f'  File "{project / "script.py"}", line {line}, in <module>']


def test_a_syntax_error_points_at_the_script(project):
    (project / "script.py").write_text("x = = 3\n")
    done = fulmen("run", "script.py", cwd=project)
    assert done.returncode == 1 and "x = = 3" in done.stderr and "fulmen/cli" not in done.stderr


def test_exit_status_passes_on(project):
    assert fulmen("run", "script.py", "exit", cwd=project).returncode == 7


def test_children_have_the_alias_and_a_clean_path(project):
    done = fulmen("run", "script.py", "child", cwd=project)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "fulmen.trainer.trainer"]


def test_children_that_use_no_lightning_pay_nothing(project):
    assert fulmen("run", "script.py", "quiet child", cwd=project).stdout.split() == ["False", "False"]


def test_the_environments_own_sitecustomize_runs_too(project, tmp_path):
    other = tmp_path / "site"
    other.mkdir()
    (other / "sitecustomize.py").write_text("import builtins; builtins.FROM_SITE = 'here'\n")
    (project / "script.py").write_text(
        "import subprocess, sys\nsys.exit(subprocess.run([sys.executable, '-c', 'print(FROM_SITE)']).returncode)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "fulmen", "run", "script.py"],
        capture_output=True,
        text=True,
        cwd=project,
        env={**ENVIRONMENT, "PYTHONPATH": str(other)},
    )
    assert done.stdout.split() == ["here"], done.stderr


def test_a_folder_with_a_main_module(project):
    (project / "__main__.py").write_text("import beside, sys; print(beside.VALUE, sys.argv[1:])\n")
    done = fulmen("run", "project", "x", cwd=project.parent)
    assert done.stdout.split() == ["42", "['x']"], done.stderr
