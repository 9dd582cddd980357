"""A run that gets a signal leaves one checkpoint that goes on bit for bit, tears down, and ends by the signal's status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytestmark = [pytest.mark.skipif(os.name != "posix", reason="signals of POSIX"), pytest.mark.timeout(240)]
SCRIPT = Path(__file__).with_name("signalled.py")
_server: subprocess.Popen[str] | None = None


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    global _server
    _server = subprocess.Popen([sys.executable, SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield
    _server.communicate(timeout=60)


def run(folder: Path, step: int, how: str, *options: str, **variables: str) -> tuple[int, list[str]]:
    """One training; its exit status and what it printed."""
    folder.mkdir(exist_ok=True)
    assert _server is not None
    assert _server.stdin is not None
    assert _server.stdout is not None
    _server.stdin.write(json.dumps([str(folder), step, how, options, variables]) + "\n")
    _server.stdin.flush()
    status, output = json.loads(_server.stdout.readline())
    assert "Traceback" not in output, output
    return status, output.splitlines()


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_file())


def steps(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("step")]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    status, lines = run(tmp_path_factory.mktemp("straight"), 0, "none")
    assert status == 0
    return lines


@pytest.mark.parametrize(
    ("step", "how", "path"), [(2, "SIGTERM", "last"), (5, "SIGTERM", "last"), (8, "SIGUSR1", "auto")]
)
def test_a_signal_saves_and_the_next_run_goes_on(
    step: int, how: str, path: str, straight: list[str], tmp_path: Path
) -> None:
    status, lines = run(tmp_path, step, how)
    number = getattr(signal, how)
    assert status == 128 + number
    assert lines[-3:] == [f"on_exception SIGTERMException {128 + number}", "teardown", "handlers restored"]
    assert len(steps(lines)) == step + 1, "the step in hand is finished, and no other begins"
    assert "last.ckpt" in files(tmp_path)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == step + 1
    status, more = run(tmp_path, 0, "none", f"from={path}")
    assert status == 0
    assert steps(lines) + steps(more) == steps(straight)
    assert more[-1] == straight[-1], "weights"


def test_a_signal_within_a_validation(tmp_path: Path) -> None:
    _, straight = run(tmp_path / "a", 0, "none", "in-validation")
    status, lines = run(tmp_path / "b", 1, "SIGTERM", "in-validation")
    assert status == 128 + signal.SIGTERM
    assert lines[-4:-1] == ["validation 1", "on_exception SIGTERMException 143", "teardown"]
    status, more = run(tmp_path / "b", 0, "none", "in-validation", "from=last")
    # the validation runs anew, as a whole, and draws the same numbers
    assert more == straight[len(straight) - len(more) :]
    assert more[0] == "validation 0"


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    status, lines = run(tmp_path, 1, "SIGTERM", "dawdle")
    assert status == -signal.SIGTERM
    assert lines[-1].startswith("on_exception")


def test_a_warning_and_then_the_end_are_no_hurry(tmp_path: Path) -> None:
    status, lines = run(tmp_path, 1, "SIGUSR1+SIGTERM")
    assert status == 128 + signal.SIGTERM
    assert lines[-2:] == ["teardown", "handlers restored"]
    assert files(tmp_path) == ["last.ckpt"]


def test_handlers_of_the_user(tmp_path: Path) -> None:
    status, lines = run(tmp_path, 1, "SIGUSR1+SIGTERM", "own-handler")
    assert status == 128 + signal.SIGTERM
    assert "own warning" in lines
    assert "own handler" in lines
    assert lines[-1] == "handlers restored"


def test_a_signal_in_setup_comes_before_the_second_batch(tmp_path: Path) -> None:
    status, lines = run(tmp_path, 0, "SIGTERM", "in-setup")
    assert status == 128 + signal.SIGTERM
    assert len(steps(lines)) == 1


def test_workers_that_get_the_signal_too(tmp_path: Path) -> None:
    _, straight = run(tmp_path / "a", 0, "none", "workers")
    status, lines = run(tmp_path / "b", 3, "SIGTERM", "workers", "group")
    assert status == 128 + signal.SIGTERM, lines
    status, more = run(tmp_path / "b", 0, "none", "workers", "from=last")
    assert status == 0
    assert steps(lines) + steps(more) == steps(straight)
    assert more[-1] == straight[-1]


def test_without_checkpoints_nothing_is_written(tmp_path: Path) -> None:
    status, _ = run(tmp_path, 1, "SIGTERM", "no-files")
    assert status == 128 + signal.SIGTERM
    assert files(tmp_path) == []


def test_max_time_leaves_a_file_that_goes_on(tmp_path: Path) -> None:
    status, lines = run(tmp_path, 0, "none", "max-time", "slow")
    assert status == 0
    done = len(steps(lines))
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert state["global_step"] == done
    _, more = run(tmp_path / "b", 0, "none", f"from={tmp_path / 'last.ckpt'}")
    epoch = (done - 1) // 6
    if epoch < 2 and done % 6:
        assert [int(line.split()[1]) for line in steps(more)][0] == done % 6


def slurm(folder: Path) -> dict[str, str]:
    """The variables of a job, and a `scontrol` that writes down what it is asked for."""
    tools = folder / "bin"
    tools.mkdir(parents=True)
    for name, text in (("scontrol", f'echo "$@" >> {folder}/asked'), ("srun", "true")):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    return {
        "PATH": f"{tools}:{os.environ['PATH']}", "SLURM_NTASKS": "1", "SLURM_JOB_ID": "4711", "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_NAME": "train", "SLURM_NTASKS_PER_NODE": "1",
    }  # fmt: skip


def test_slurm_puts_the_job_back_and_trains_on(straight: list[str], tmp_path: Path) -> None:
    job = slurm(tmp_path / "slurm")
    folder = tmp_path / "run"
    status, lines = run(folder, 4, "SIGUSR1", **job)
    assert status == 0
    assert steps(lines) == steps(straight)
    assert (tmp_path / "slurm" / "asked").read_text() == "requeue 4711\n"
    assert torch.load(folder / "hpc_ckpt_1.ckpt", weights_only=True)["global_step"] == 5
    # taken up by itself; what ends the job then is newer
    status, more = run(folder, 7, "SIGTERM", **job)
    assert status == 128 + signal.SIGTERM
    assert steps(more) == steps(straight)[5:8]
    assert torch.load(folder / "hpc_ckpt_2.ckpt", weights_only=True)["global_step"] == 8
    status, rest = run(folder, 0, "none", **job)
    assert steps(rest) == steps(straight)[8:]
    assert rest[-1] == straight[-1]


def test_the_number_of_a_job_in_an_array(tmp_path: Path) -> None:
    job = {**slurm(tmp_path / "slurm"), "SLURM_ARRAY_JOB_ID": "88", "SLURM_ARRAY_TASK_ID": "3"}
    run(tmp_path / "run", 2, "SIGUSR1", **job)
    assert (tmp_path / "slurm" / "asked").read_text() == "requeue 88_3\n"


def test_another_thread_installs_nothing() -> None:
    from threading import Thread

    import fulmen as L
    from fulmen.demos.boring_classes import BoringModel

    before = signal.getsignal(signal.SIGTERM)
    seen = []

    class Look(BoringModel):
        def on_train_start(self) -> None:
            seen.append(signal.getsignal(signal.SIGTERM))

    trainer = L.Trainer(
        accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    thread = Thread(target=trainer.fit, args=(Look(),))
    thread.start()
    thread.join()
    assert seen == [before]
    assert trainer.state.finished
