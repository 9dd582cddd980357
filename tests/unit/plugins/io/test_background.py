"""Saving while training goes on: the same files, nothing torn, nothing lost, nothing left behind."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import optimizer as hooks

import fulmen as L
from fulmen.callbacks import ModelCheckpoint
from fulmen.plugins.io import AsyncCheckpointIO, NativeCheckpointIO
from fulmen.plugins.io.contents import difference, flatten, read
from fulmen.plugins.io.moments import is_quiet


class Model(L.LightningModule):
    def __init__(self, width: int = 300) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(width, width), torch.nn.BatchNorm1d(width), torch.nn.Linear(width, 1)
        )
        self.width = width

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = self.layers(batch).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)

    def train_dataloader(self) -> Any:
        torch.manual_seed(1)
        return torch.utils.data.DataLoader(torch.randn(48, self.width), batch_size=4)


class Clamping(Model):
    """Changes weights in a way that no counter shows, after the checkpoint callback had its turn."""

    def on_train_batch_end(self, *_: Any) -> None:
        for parameter in self.parameters():
            parameter.data.clamp_(-0.01, 0.01)


def fit(folder: Path, model: L.LightningModule, io: Any, **options: Any) -> L.Trainer:
    torch.manual_seed(0)
    options = {"every_n_train_steps": 1, "save_top_k": -1, "save_last": True} | options
    trainer = L.Trainer(
        max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        default_root_dir=str(folder), plugins=[io], callbacks=[ModelCheckpoint(folder, **options)],
    )  # fmt: skip
    trainer.fit(model)
    return trainer


def fresh(kind: type[Model]) -> Model:
    torch.manual_seed(3)
    return kind()


@pytest.mark.parametrize("kind", [Model, Clamping])
@pytest.mark.parametrize(
    "make", [lambda: NativeCheckpointIO(background_from=0), AsyncCheckpointIO], ids=["native", "async"]
)
def test_files_are_those_of_synchronous_saves(tmp_path: Path, kind: type[Model], make: Any) -> None:
    trainer = fit(tmp_path / "beside", fresh(kind), make())
    fit(tmp_path / "between", fresh(kind), NativeCheckpointIO(background_from=None))
    names = sorted(p.name for p in (tmp_path / "between").iterdir())
    assert len(names) == 13 and sorted(p.name for p in (tmp_path / "beside").iterdir()) == names
    for name in names:
        left, right = (dict(flatten(read(tmp_path / folder / name))) for folder in ("beside", "between"))
        assert list(left) == list(right)
        for key in left:
            if "path" not in key and not key.startswith("callbacks"):
                assert difference(left[key], right[key]) is None, (name, key)
    trainer.state.fn = "fit"
    assert is_quiet(trainer) is (kind is Model)
    assert not hooks._global_optimizer_pre_hooks


def test_a_change_in_the_step_is_noticed(tmp_path: Path) -> None:
    class Changing(Model):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            with torch.no_grad():
                self.layers[0].weight.mul_(0.9)
            return super().training_step(batch, batch_idx)

    with pytest.raises(RuntimeError, match="changed in place, outside of the optimizer"):
        fit(tmp_path, Changing(), NativeCheckpointIO(background_from=0))
    assert not hooks._global_optimizer_pre_hooks


class Slow(NativeCheckpointIO):
    """Takes its time, and notes which step the training had reached when a file was complete."""

    def __init__(self, fails_at: int = 0) -> None:
        super().__init__(background_from=0)
        self.writes = 0
        self.fails_at = fails_at

    def _write(self, archive: Any, path: Any, storage_options: Any) -> None:
        self.writes += 1
        assert threading.current_thread() is not threading.main_thread()
        time.sleep(0.05)
        if self.writes == self.fails_at:
            raise OSError(28, "No space left on device", str(path))
        super()._write(archive, path, storage_options)


def test_an_error_ends_the_run_and_the_older_file_stays(tmp_path: Path) -> None:
    model = Model()
    with pytest.raises(OSError, match="No space left"):
        fit(tmp_path, model, Slow(fails_at=2), every_n_train_steps=3, save_top_k=1, save_last=None)
    assert [p.name for p in tmp_path.iterdir()] == ["epoch=0-step=3.ckpt"]
    assert read(tmp_path / "epoch=0-step=3.ckpt")["global_step"] == 3
    assert not hooks._global_optimizer_pre_hooks


def test_the_error_comes_while_training(tmp_path: Path) -> None:
    seen = []

    class Watching(Model):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            seen.append(batch_idx)
            time.sleep(0.1)
            return super().training_step(batch, batch_idx)

    with pytest.raises(OSError, match="No space left"):
        fit(tmp_path, Watching(), Slow(fails_at=1), every_n_train_steps=2, save_last=None)
    assert seen == [0, 1, 2]


def test_the_end_waits_for_the_file(tmp_path: Path) -> None:
    fit(tmp_path, Model(), Slow(), every_n_train_steps=12, save_top_k=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["epoch=0-step=12.ckpt", "last.ckpt"]
    for path in tmp_path.iterdir():
        assert read(path)["global_step"] == 12


def test_an_exception_waits_for_the_file(tmp_path: Path) -> None:
    class Failing(Model):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            if batch_idx == 3:
                raise ValueError("user's own")
            return super().training_step(batch, batch_idx)

    with pytest.raises(ValueError, match="user's own"):
        fit(tmp_path, Failing(), Slow(), every_n_train_steps=3, save_last=None)
    assert read(tmp_path / "epoch=0-step=3.ckpt")["global_step"] == 3


def test_links_and_loggers_wait_for_the_file(tmp_path: Path) -> None:
    from fulmen.loggers import CSVLogger

    there: list[bool] = []

    class Logger(CSVLogger):
        def after_save_checkpoint(self, callback: Any) -> None:
            there.append(Path(callback._last_checkpoint_saved).exists())

    trainer = L.Trainer(
        max_epochs=1, logger=Logger(tmp_path), enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        plugins=[Slow()], callbacks=[ModelCheckpoint(tmp_path / "c", every_n_train_steps=4, save_last="link")],
    )  # fmt: skip
    trainer.fit(Model())
    assert there == [True] * 3
    assert (tmp_path / "c" / "last.ckpt").is_symlink()
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["epoch=0-step=12.ckpt", "last.ckpt"]


def test_one_name_for_all_gets_versions(tmp_path: Path) -> None:
    fit(tmp_path, Model(), Slow(), every_n_train_steps=4, save_top_k=-1, save_last=None, filename="x", monitor="step")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x-v1.ckpt", "x-v2.ckpt", "x.ckpt"]


def test_small_states_are_saved_at_once(tmp_path: Path) -> None:
    io = NativeCheckpointIO()
    fit(tmp_path, Model(), io)
    assert io.background._executor is None and io.background.buffers.spare == 0


def test_buffers_are_reused(tmp_path: Path) -> None:
    io = AsyncCheckpointIO()
    state = {"w": torch.zeros(1_000_000)}
    native = io.native
    assert native is not None
    for number in range(4):
        state["w"].fill_(number)
        io.save_checkpoint(state, tmp_path / f"{number}.ckpt")
        native.background.drain()
        assert native.background.buffers.spare == 4_000_000
    io.teardown()
    assert native.background.buffers.spare == 0
    assert [read(tmp_path / f"{n}.ckpt")["w"][0].item() for n in range(4)] == [0, 1, 2, 3]


def test_resume_by_auto(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = {
        "logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
        "default_root_dir": str(tmp_path),
    }  # fmt: skip
    steps = []
    for limit in (5, 9):
        trainer = L.Trainer(
            max_steps=limit, callbacks=[ModelCheckpoint(tmp_path / "c", every_n_train_steps=1, save_top_k=1)], **options
        )
        trainer.fit(Model(), ckpt_path="auto")
        steps.append(trainer.ckpt_path)
        (tmp_path / "c" / "damaged.ckpt").write_bytes(b"PK\x03\x04")
    assert steps[0] is None and steps[1].endswith("step=5.ckpt")
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["damaged.ckpt", "epoch=0-step=9.ckpt"]


def test_monitor_without_a_value(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="could not find the monitored key"):
        fit(tmp_path, Model(), NativeCheckpointIO(background_from=0), monitor="nothing", save_last=None)
    assert not list(tmp_path.iterdir())
