"""Small modules and data for examples, bug reports and tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from fulmen.core.datamodule import LightningDataModule
from fulmen.core.module import LightningModule

_PARTS = ("train", "val", "test", "predict")
_STAGES = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}


class RandomDataset(Dataset[Tensor]):
    """``length`` rows of ``size`` normal numbers, drawn when it is made."""

    def __init__(self, size: int, length: int) -> None:
        self.len = length
        self.data = torch.randn(length, size)

    def __getitem__(self, index: int) -> Tensor:
        return self.data[index]

    def __len__(self) -> int:
        return self.len


class RandomDictDataset(Dataset[dict[str, Tensor]]):
    """As `RandomDataset`, with rows that are dicts: ``a``, and ``b`` which is ``a + 2``."""

    def __init__(self, size: int, length: int) -> None:
        self.len = length
        self.data = torch.randn(length, size)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = self.data[index]
        return {"a": row, "b": row + 2}

    def __len__(self) -> int:
        return self.len


class RandomIterableDataset(IterableDataset[Tensor]):
    """``count`` rows of ``size`` normal numbers, drawn as they are asked for; without a length."""

    def __init__(self, size: int, count: int) -> None:
        self.count = count
        self.size = size

    def __iter__(self) -> Iterator[Tensor]:
        for _ in range(self.count):
            yield torch.randn(self.size)


class RandomIterableDatasetWithLen(RandomIterableDataset):
    """As `RandomIterableDataset`, with a length."""

    def __init__(self, size: int, count: int) -> None:
        super().__init__(size, count)

    def __iter__(self) -> Iterator[Tensor]:
        return super().__iter__()

    def __len__(self) -> int:
        return self.count


class BoringModel(LightningModule):
    """One linear layer from 32 to 2, with every step and loaders of 64 single rows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Two numbers a row."""
        output: Tensor = self.layer(x)
        return output

    def loss(self, preds: Tensor, labels: Tensor | None = None) -> Tensor:
        """Mean squared distance from the labels, by default from one."""
        return functional.mse_loss(preds, torch.ones_like(preds) if labels is None else labels)

    def step(self, batch: Any) -> Tensor:
        """The loss of a batch."""
        return self.loss(self(batch))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """The loss, in a dict."""
        return {"loss": self.step(batch)}

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        """The loss, as ``x``."""
        return {"x": self.step(batch)}

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        """The loss, as ``y``."""
        return {"y": self.step(batch)}

    def configure_optimizers(self) -> Any:
        """SGD, with a rate that falls every epoch."""
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)]

    def train_dataloader(self) -> Any:
        """64 rows, one a batch."""
        return _loader()

    def val_dataloader(self) -> Any:
        """64 rows, one a batch."""
        return _loader()

    def test_dataloader(self) -> Any:
        """64 rows, one a batch."""
        return _loader()

    def predict_dataloader(self) -> Any:
        """64 rows, one a batch."""
        return _loader()


def _loader() -> DataLoader[Tensor]:
    return DataLoader(RandomDataset(32, 64))


class ManualOptimBoringModel(BoringModel):
    """`BoringModel` with manual optimization."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Steps by hand."""
        optimizer = self.optimizers()
        loss = self.step(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss


class DemoModel(LightningModule):
    """One layer under Adam."""

    def __init__(self, out_dim: int = 10, learning_rate: float = 0.02) -> None:
        super().__init__()
        self.l1 = nn.Linear(32, out_dim)
        self.learning_rate = learning_rate

    def forward(self, x: Tensor) -> Tensor:
        """Non-negative numbers."""
        return torch.relu(self.l1(x.view(x.size(0), -1)))

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """The sum of the outputs."""
        return {"loss": self(batch).sum()}

    def configure_optimizers(self) -> Any:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


class Net(nn.Module):
    """A small convolutional network for 28×28 pictures in ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logarithms of the classes' probabilities."""
        x = functional.relu(self.conv2(functional.relu(self.conv1(x))))
        x = self.dropout1(functional.max_pool2d(x, 2)).flatten(1)
        return functional.log_softmax(self.fc2(self.dropout2(functional.relu(self.fc1(x)))), dim=1)


class BoringDataModule(LightningDataModule):
    """Four parts of 64 rows of one data set of 256."""

    random_train: Any
    random_val: Any
    random_test: Any
    random_predict: Any

    def __init__(self) -> None:
        super().__init__()
        self.random_full = RandomDataset(32, 64 * 4)

    def setup(self, stage: str) -> None:
        """Takes the parts of a stage."""
        for part in _STAGES.get(stage, ()):
            first = 64 * _PARTS.index(part)
            setattr(self, f"random_{part}", Subset(self.random_full, range(first, first + 64)))

    def train_dataloader(self) -> Any:
        """The first part."""
        return DataLoader(self.random_train)

    def val_dataloader(self) -> Any:
        """The second part."""
        return DataLoader(self.random_val)

    def test_dataloader(self) -> Any:
        """The third part."""
        return DataLoader(self.random_test)

    def predict_dataloader(self) -> Any:
        """The fourth part."""
        return DataLoader(self.random_predict)


class BoringDataModuleNoLen(LightningDataModule):
    """Four streams without a length."""

    random_train: Any
    random_val: Any
    random_test: Any
    random_predict: Any

    def __init__(self) -> None:
        super().__init__()

    def setup(self, stage: str) -> None:
        """Makes the streams of a stage."""
        for part in _STAGES.get(stage, ()):
            setattr(self, f"random_{part}", RandomIterableDataset(32, 512))

    def train_dataloader(self) -> Any:
        """A stream."""
        return DataLoader(self.random_train)

    def val_dataloader(self) -> Any:
        """A stream."""
        return DataLoader(self.random_val)

    def test_dataloader(self) -> Any:
        """A stream."""
        return DataLoader(self.random_test)

    def predict_dataloader(self) -> Any:
        """A stream."""
        return DataLoader(self.random_predict)


class IterableBoringDataModule(LightningDataModule):
    """For every stage two loaders: one with a length, one without."""

    train_datasets: Any
    val_datasets: Any
    test_datasets: Any
    predict_datasets: Any

    def __init__(self) -> None:
        super().__init__()

    def setup(self, stage: str) -> None:
        """Makes the data of a stage."""
        for part in _STAGES.get(stage, ()):
            rows = 16 << _PARTS.index(part)
            setattr(self, f"{part}_datasets", [RandomDataset(4, rows), RandomIterableDataset(4, rows)])

    def train_dataloader(self) -> Any:
        """Two loaders."""
        return [DataLoader(d) for d in self.train_datasets]

    def val_dataloader(self) -> Any:
        """Two loaders."""
        return [DataLoader(d) for d in self.val_datasets]

    def test_dataloader(self) -> Any:
        """Two loaders."""
        return [DataLoader(d) for d in self.test_datasets]

    def predict_dataloader(self) -> Any:
        """Two loaders."""
        return [DataLoader(d) for d in self.predict_datasets]
