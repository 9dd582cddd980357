"""Run by `test_real_clients`, in a process of its own: a fit that logs into a service's client and into CSV files."""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any

import numpy as np
import torch

import fulmen as L
from fulmen.callbacks import ModelCheckpoint
from fulmen.demos.boring_classes import BoringModel
from fulmen.loggers import CometLogger, CSVLogger, MLFlowLogger, NeptuneLogger, WandbLogger


class Module(BoringModel):
    def __init__(self, lr: float = 0.1, net: Any = None) -> None:
        super().__init__()
        self.save_hyperparameters()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        outputs = super().training_step(batch, batch_idx)
        self.log("train/loss", outputs["loss"])
        return outputs

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        outputs = super().validation_step(batch, batch_idx)
        self.log("val/loss", outputs["x"])
        return outputs


def make(service: str) -> Any:
    if service == "wandb":
        return WandbLogger(offline=True, project="p", name="n", tags=["t"], prefix="pre")
    if service == "mlflow":
        return MLFlowLogger("e", run_name="r", tags={"own": "tag"}, log_model=True)
    if service == "comet":
        return CometLogger(online=False, offline_directory=".", project="p", name="n", prefix="pre")
    return NeptuneLogger(mode="offline", name="n", tags=["t"], git_ref=False, capture_hardware_metrics=False)


def media(service: str, logger: Any, module: Module) -> None:
    """What the logger or its `experiment` has beside metrics."""
    picture = np.zeros((4, 4, 3), dtype=np.uint8)
    if service == "wandb":
        logger.log_image("picture", [picture], caption=["black"])
        logger.log_table("table", columns=["a", "b"], data=[[1, 2]])
        logger.log_text("text", columns=["a"], data=[["word"]])
        logger.watch(module, log_graph=False)
        logger.experiment.finish()
    elif service == "mlflow":
        logger.experiment.log_text(logger.run_id, "words", "own.txt")
    elif service == "comet":
        logger.experiment.log_image(picture + 0.5, "picture")
        logger.experiment.end()
    else:
        logger.log_model_summary(module)
        logger.experiment["own"] = "words"
        logger.experiment.stop()


if __name__ == "__main__":
    service = sys.argv[1]
    L.seed_everything(1)
    logger, table = make(service), CSVLogger("csv", name=None)
    trainer = L.Trainer(
        max_epochs=2, limit_train_batches=6, limit_val_batches=2, logger=[logger, table], log_every_n_steps=2,
        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        callbacks=[ModelCheckpoint("files", "{epoch}", monitor="val/loss", save_top_k=1, auto_insert_metric_name=False)],
    )  # fmt: skip
    module = Module(0.1, {"width": 3, "act": torch.nn.ReLU})
    trainer.fit(module)
    version = logger.version
    assert version and logger.version == version
    if service != "wandb":
        # wandb's pickles go on with the same run, which needs its service
        assert pickle.loads(pickle.dumps(logger)).name == logger.name
    media(service, logger, module)
    print("version", version, "of", logger.name, "in", os.path.relpath(logger.save_dir))
