"""Checkpoints behind URLs: an http server, fsspec's memory, and a server that speaks S3."""

from __future__ import annotations

import functools
import http.server
import pickle
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import fulmen as L
from fulmen.callbacks import ModelCheckpoint
from fulmen.plugins.io import NativeCheckpointIO
from fulmen.utilities.exceptions import DamagedCheckpoint
from fulmen.utilities.files import get_filesystem

pytestmark = pytest.mark.filterwarnings("ignore")


class Tiny(L.LightningModule):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(2, width)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = self.layer(batch).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(torch.arange(16.0).reshape(8, 2), batch_size=2, shuffle=True)


def make(callbacks: list[Any], **options: Any) -> L.Trainer:
    return L.Trainer(
        logger=False, accelerator="cpu", callbacks=callbacks, enable_progress_bar=False, enable_model_summary=False,
        **options,
    )  # fmt: skip


# ---- http ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_from_an_http_server(served: tuple[Path, str]) -> None:
    folder, url = served
    for width in (5, 6):
        module = Tiny(width)
        trainer = make([], max_epochs=1, default_root_dir=folder, enable_checkpointing=False)
        trainer.fit(module)
        trainer.save_checkpoint(folder / "a.ckpt")
        loaded = Tiny.load_from_checkpoint(f"{url}/a.ckpt")
        # the second time the server has another file: nothing may come from a cache
        assert loaded.hparams.width == width and torch.equal(loaded.layer.weight, module.layer.weight)
    resumed = make([], max_epochs=2, default_root_dir=folder, enable_checkpointing=False)
    resumed.fit(Tiny(6), ckpt_path=f"{url}/a.ckpt")
    assert resumed.global_step == 8


def test_http_says_what_is_wrong(served: tuple[Path, str]) -> None:
    folder, url = served
    with pytest.raises(FileNotFoundError, match=r"http://127\.0\.0\.1.*none\.ckpt"):
        Tiny.load_from_checkpoint(f"{url}/none.ckpt")
    torch.save({"state_dict": Tiny().state_dict()}, folder / "cut.ckpt")
    (folder / "cut.ckpt").write_bytes((folder / "cut.ckpt").read_bytes()[:-30])
    with pytest.raises(DamagedCheckpoint, match=r"http://127\.0\.0\.1.*cut\.ckpt cannot be loaded.*copy it once more"):
        Tiny.load_from_checkpoint(f"{url}/cut.ckpt")
    torch.save({"state_dict": {}, "x": Path("a")}, folder / "object.ckpt")
    with pytest.raises(pickle.UnpicklingError, match=r"http://127\.0\.0\.1.*object\.ckpt holds pathlib"):
        Tiny.load_from_checkpoint(f"{url}/object.ckpt")


# ---- file systems ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    import fsspec

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    options = {
        "key": "k", "secret": "s", "client_kwargs": {"region_name": "eu-central-1"},
        "endpoint_url": f"http://{host}:{port}",
    }  # fmt: skip
    before = fsspec.config.conf.get("s3")
    fsspec.config.conf["s3"] = options
    fsspec.filesystem("s3").mkdir("runs")
    yield "s3://runs"
    fsspec.config.conf.pop("s3")
    if before is not None:
        fsspec.config.conf["s3"] = before
    server.stop()


@pytest.fixture(params=["memory", "s3"])
def root(request: pytest.FixtureRequest) -> str:
    name = uuid.uuid4().hex
    return f"memory://{name}" if request.param == "memory" else f"{request.getfixturevalue('bucket')}/{name}"


def names(root: str) -> list[str]:
    filesystem = get_filesystem(root)
    filesystem.invalidate_cache()
    return sorted(str(path).rsplit("/", 1)[-1] for path in filesystem.ls(root, detail=False))


@pytest.mark.parametrize("background_from", [None, 0])
def test_a_run_keeps_its_files_there_and_goes_on(root: str, tmp_path: Path, background_from: int | None) -> None:
    def callbacks() -> list[ModelCheckpoint]:
        return [
            ModelCheckpoint(root, filename="{step}", every_n_train_steps=1, save_last=True),
            ModelCheckpoint(root, filename="best-{step}", monitor="loss", save_top_k=2, every_n_train_steps=2),
        ]

    def plugins() -> list[Any]:
        return [NativeCheckpointIO(background_from=background_from)]

    torch.manual_seed(0)
    straight = Tiny()
    make([], max_steps=7, default_root_dir=tmp_path, enable_checkpointing=False).fit(straight)
    torch.manual_seed(0)
    first = make(callbacks(), max_steps=5, default_root_dir=tmp_path, plugins=plugins())
    first.fit(Tiny())
    kept = names(root)
    assert [n for n in kept if n.startswith("step")] == ["step=5.ckpt"] and "last.ckpt" in kept
    assert len([n for n in kept if n.startswith("best")]) == 2
    assert first.checkpoint_callback.best_model_path.startswith(root)
    for way in ("last", "auto", f"{root}/step=5.ckpt"):
        module = Tiny()
        # the files are left alone, so that the next way finds the same
        own = [ModelCheckpoint(root, every_n_epochs=100)]
        trainer = make(own, max_steps=7, default_root_dir=tmp_path)
        trainer.fit(module, ckpt_path=way)
        assert trainer.global_step == 7
        assert torch.equal(module.layer.weight, straight.layer.weight), way
    evaluated = Tiny.load_from_checkpoint(f"{root}/last.ckpt")
    assert evaluated.hparams.width == 3


def test_auto_passes_over_what_does_not_load(root: str, tmp_path: Path) -> None:
    make([ModelCheckpoint(root, every_n_train_steps=2, save_top_k=-1)], max_steps=4, default_root_dir=tmp_path).fit(
        Tiny()
    )
    filesystem = get_filesystem(root)
    newest = f"{root}/epoch=0-step=4.ckpt"
    filesystem.pipe_file(newest, filesystem.cat_file(newest)[:-50])
    trainer = make([ModelCheckpoint(root)], max_steps=5, default_root_dir=tmp_path)
    trainer.fit(Tiny(), ckpt_path="auto")
    assert str(trainer.ckpt_path).endswith("step=2.ckpt")


def test_links_are_refused_there(root: str, tmp_path: Path) -> None:
    trainer = make([ModelCheckpoint(root, save_last="link")], max_epochs=1, default_root_dir=tmp_path)
    with pytest.raises(ValueError, match="only supported for local paths"):
        trainer.fit(Tiny())


def test_a_failing_upload_leaves_the_former_file(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    io = NativeCheckpointIO()
    io.save_checkpoint({"epoch": 1}, f"{root}/a.ckpt")
    from fulmen._core import CheckpointArchive

    def break_off(archive: Any, take: Any, fetch: Any) -> None:
        take(b"half")
        raise OSError(104, "Connection reset by peer")

    monkeypatch.setattr("fulmen.plugins.io.native_io.encode_checkpoint", lambda *_: type("A", (), {
        "write_to": break_off, "nbytes": 0, "device_storages": lambda self: [], "keep_beside": print,
    })())  # fmt: skip
    assert CheckpointArchive
    with pytest.raises(OSError, match="reset by peer"):
        io.save_checkpoint({"epoch": 2}, f"{root}/a.ckpt")
    assert names(root) == ["a.ckpt"]
    assert io.load_checkpoint(f"{root}/a.ckpt") == {"epoch": 1}
