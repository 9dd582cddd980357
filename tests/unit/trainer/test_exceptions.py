"""What runs and what is left when a run ends by an exception."""

from __future__ import annotations

import signal
import traceback
from pathlib import Path
from typing import Any

import pytest

import fulmen as L
from fulmen.callbacks import OnExceptionCheckpoint
from fulmen.demos.boring_classes import BoringModel
from fulmen.trainer.states import TrainerStatus


class Stop(Exception):
    pass


class Breaks(BoringModel):
    def __init__(self, error: type[BaseException], at: int = 1) -> None:
        super().__init__()
        self.error, self.at, self.calls = error, at, []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx == self.at:
            raise self.error("on purpose")
        return super().training_step(batch, batch_idx)

    def teardown(self, stage: str) -> None:
        self.calls.append(f"teardown {stage}")


class Notes(L.Callback):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.calls.append(type(exception).__name__)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.calls.append("teardown")


def quiet(tmp_path: Path, **options: Any) -> L.Trainer:
    return L.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=1,
        **{"enable_checkpointing": False, **options},
    )


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, SystemExit])
def test_the_same_exception_reaches_the_caller_after_teardown(tmp_path: Path, error: type[BaseException]) -> None:
    notes, module = Notes(), Breaks(error)
    trainer = quiet(tmp_path, callbacks=[notes], num_sanity_val_steps=0)
    with pytest.raises(error, match="on purpose"):
        trainer.fit(module)
    assert notes.calls == [error.__name__, "teardown"]
    assert module.calls == ["teardown fit"]
    assert trainer.state.status is TrainerStatus.INTERRUPTED
    assert trainer.interrupted
    assert trainer.global_step == 1


def test_ctrl_c_leaves_the_signal_handler_as_it_was(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        quiet(tmp_path).fit(Breaks(KeyboardInterrupt))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_failing_teardown_does_not_hide_the_first_exception(tmp_path: Path) -> None:
    class Worse(Breaks):
        def teardown(self, stage: str) -> None:
            raise ValueError("late")

    with pytest.warns(UserWarning, match="late"), pytest.raises(Stop):
        quiet(tmp_path).fit(Worse(Stop))


def test_the_file_written_on_the_way_out_stays(tmp_path: Path) -> None:
    callback = OnExceptionCheckpoint(str(tmp_path / "out"))
    with pytest.raises(Stop):
        quiet(tmp_path, callbacks=[callback], enable_checkpointing=True).fit(Breaks(Stop))
    assert (tmp_path / "out" / "on_exception.ckpt").is_file()


def test_the_users_line_is_the_last_frame(tmp_path: Path) -> None:
    with pytest.raises(Stop) as caught:
        quiet(tmp_path).fit(Breaks(Stop))
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert frames[-1].name == "training_step"
    assert frames[-1].filename == __file__
    package = str(Path(L.__file__).parent)
    ours = [f for f in frames if f.filename.startswith(package)]
    assert len(ours) <= 5, [f"{f.filename}:{f.name}" for f in ours]


def test_a_trainer_can_fit_again_after_an_exception(tmp_path: Path) -> None:
    module = Breaks(Stop)
    trainer = quiet(tmp_path)
    with pytest.raises(Stop):
        trainer.fit(module)
    module.at = -1
    trainer.fit(module)
    assert trainer.current_epoch == 1
    assert trainer.state.finished
