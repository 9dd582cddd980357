"""Handwritten digits, from data to a report: train, keep the best checkpoint, test it, predict, draw.

    python examples/digits.py [--out demo_out] [--max-epochs 20] [--seed 7]

1797 pictures of 8x8 pixels come with scikit-learn, so nothing is downloaded. On two cores it takes about half a minute.
Needs the packages of the extra "demo": pip install 'fulmen[demo]'.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

import fulmen as L
from fulmen.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from fulmen.loggers import CSVLogger, TensorBoardLogger
from fulmen.report import find_runs, write_picture, write_report


class Digits(L.LightningDataModule):
    """The digits as tensors of shape (1, 8, 8) with values in 0..1, split into 1200 / 297 / 300 pictures."""

    def __init__(self, batch_size: int = 32, seed: int = 0) -> None:
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        """Load and split; the split depends on nothing but the seed, so every stage sees the same one."""
        pixels, labels = load_digits(return_X_y=True)
        images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 16
        everything = TensorDataset(images, torch.tensor(labels))
        order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(self.hparams.seed)).tolist()
        self.train, self.val, self.test = (
            Subset(everything, part) for part in (order[:1200], order[1200:1497], order[1497:])
        )

    def train_dataloader(self) -> DataLoader:
        """Shuffled training pictures."""
        return DataLoader(self.train, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Pictures that decide which checkpoint is best."""
        return DataLoader(self.val, batch_size=100)

    def test_dataloader(self) -> DataLoader:
        """Pictures that nothing in the training looks at."""
        return DataLoader(self.test, batch_size=100)

    def predict_dataloader(self) -> DataLoader:
        """The first ten of the test pictures."""
        return DataLoader(Subset(self.test, range(10)), batch_size=10)


class ConvNet(L.LightningModule):
    """Two convolutions and two dense layers: 8x8 pixels in, scores of the ten digits out."""

    def __init__(self, channels: int = 32, lr: float = 2e-3, max_epochs: int = 20) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(2 * channels * 16, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Scores of shape (batch, 10) for images of shape (batch, 1, 8, 8)."""
        return self.network(images)

    def loss_and_accuracy(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Cross entropy, and the fraction of pictures that get their digit."""
        images, labels = batch
        scores = self(images)
        return F.cross_entropy(scores, labels), (scores.argmax(1) == labels).float().mean()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """One batch; loss and accuracy are logged as means of the epoch."""
        loss, accuracy = self.loss_and_accuracy(batch)
        self.log_dict({"train_loss": loss, "train_acc": accuracy}, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """One validation batch."""
        loss, accuracy = self.loss_and_accuracy(batch)
        self.log_dict({"val_loss": loss, "val_acc": accuracy}, prog_bar=True)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """One test batch."""
        loss, accuracy = self.loss_and_accuracy(batch)
        self.log_dict({"test_loss": loss, "test_acc": accuracy})

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The digits seen in a batch."""
        return self(batch[0]).argmax(1)

    def configure_optimizers(self) -> dict:
        """Adam with a rate that falls along a cosine, epoch by epoch."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.hparams.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main() -> None:
    """Train, test the best checkpoint, predict, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="where everything is written")
    parser.add_argument("--max-epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    start = time.perf_counter()

    L.seed_everything(arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = CSVLogger(arguments.out, name="csv", notes=True)
    best = ModelCheckpoint(filename="digits-{epoch}-{val_loss:.3f}", monitor="val_loss")
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=arguments.max_epochs,
        logger=[table, TensorBoardLogger(arguments.out, name="tensorboard")],
        callbacks=[
            best,
            EarlyStopping("val_loss", patience=6),
            LearningRateMonitor("epoch"),
            TQDMProgressBar(refresh_rate=10),
        ],
        log_every_n_steps=10,
        default_root_dir=arguments.out,
    )
    data, model = Digits(), ConvNet(max_epochs=arguments.max_epochs)
    trainer.fit(model, datamodule=data)
    epochs, steps = trainer.current_epoch, trainer.global_step

    [result] = trainer.test(model, datamodule=data, ckpt_path=best.best_model_path)
    [seen] = trainer.predict(model, datamodule=data, ckpt_path=best.best_model_path)
    shown = [int(label) for _, label in Subset(data.test, range(10))]

    # the commands do the same: fulmen report demo_out/csv/version_0, fulmen plot demo_out/csv/version_0
    picture, page = arguments.out / "learning_curves.png", arguments.out / "report.html"
    runs = find_runs([table.log_dir])
    write_picture(runs, picture, x="epoch")
    write_report(runs, page)
    print(f"\ntrained {epochs} epochs, {steps} steps; best checkpoint {best.best_model_path}")
    print(f"first ten test pictures: seen {seen.tolist()}, are {shown}")
    print(f"test accuracy: {result['test_acc']:.4f}")
    print(f"learning curves: {picture.resolve()}")
    print(f"report: {page.resolve()}")
    print(f"TensorBoard: tensorboard --logdir {arguments.out / 'tensorboard'}")
    print(f"seconds: {time.perf_counter() - start:.1f}")


if __name__ == "__main__":
    main()
