"""The search for a batch size: which sizes are tried, and what comes of it."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import fulmen as L
from fulmen.callbacks import BatchSizeFinder
from fulmen.tuner import Tuner
from fulmen.utilities.exceptions import MisconfigurationException


class Sized(L.LightningModule):
    """Runs out of memory where a batch has more than ``room`` samples; notes the sizes of its batches."""

    def __init__(self, batch_size=4, room=None, samples=500):
        super().__init__()
        self.save_hyperparameters("batch_size")
        self.layer = torch.nn.Linear(4, 1)
        self.room, self.samples, self.sizes = room, samples, []

    def step(self, batch, batch_idx):
        size = len(batch[0])
        self.sizes.append(size)
        if self.room is not None and size > self.room:
            raise RuntimeError("CUDA error: out of memory")
        return self.layer(batch[0]).pow(2).mean()

    training_step = validation_step = test_step = predict_step = step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def loader(self):
        return DataLoader(TensorDataset(torch.ones(self.samples, 4)), batch_size=self.hparams.batch_size)

    train_dataloader = val_dataloader = test_dataloader = predict_dataloader = loader


def trainer(**options):
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return L.Trainer(**{**quiet, "max_epochs": 1, "limit_val_batches": 0, "accelerator": "cpu", **options})


CASES = [
    ({}, {"room": 20}, [2, 4, 8, 16, 32], 16),
    ({"mode": "binsearch", "margin": 0}, {"room": 20}, [2, 4, 8, 16, 32, 24, 20, 22, 21], 20),
    ({"mode": "binsearch"}, {"room": 20}, [2, 4, 8, 16, 32, 24, 20, 22, 21], 19),
    ({"init_val": 64}, {"room": 5}, [64, 32, 16, 8, 4], 4),
    ({"init_val": 64, "mode": "binsearch", "margin": 0}, {"room": 5}, [64, 32, 16, 8, 4, 6, 5], 5),
    ({"max_trials": 3}, {}, [2, 4, 8], 8),
    ({"max_trials": 3, "mode": "binsearch"}, {}, [2, 4, 8], 7),
    ({"max_trials": 0}, {}, [], 2),
    ({"max_val": 20}, {}, [2, 4, 8, 16, 20], 20),
    ({}, {"samples": 20}, [2, 4, 8, 16, 20], 32),
    ({"mode": "binsearch", "max_trials": 1, "margin": 0.5}, {}, [2], 1),
]


@pytest.mark.parametrize(("options", "module", "tried", "found"), CASES)
def test_sizes(options, module, tried, found):
    made = Sized(**module)
    run = trainer()
    assert Tuner(run).scale_batch_size(made, steps_per_trial=1, **options) == found
    assert made.sizes == tried
    assert made.hparams.batch_size == found
    assert run.train_dataloader.batch_size == found


@pytest.mark.parametrize("method", ["validate", "test", "predict"])
def test_evaluations(method):
    module, run = Sized(room=20), trainer(limit_val_batches=1.0)
    assert Tuner(run).scale_batch_size(module, method=method, steps_per_trial=2) == 16
    assert module.sizes == [2, 2, 4, 4, 8, 8, 16, 16, 32]


@pytest.mark.parametrize("method", ["fit", "validate", "test", "predict"])
def test_the_callback_goes_on_with_the_size(method):
    module, finder = Sized(room=20), BatchSizeFinder(steps_per_trial=1)
    run = trainer(callbacks=[finder], limit_val_batches=1.0 if method == "validate" else 0)
    getattr(run, method)(module)
    assert finder.optimal_batch_size == module.hparams.batch_size == 16
    assert module.sizes == [2, 4, 8, 16, 32] + 31 * [16] + [4]


def test_a_search_within_training_exchanges_the_loaders():
    class Late(BatchSizeFinder):
        def on_fit_start(self, trainer, pl_module):
            pass

        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch in (0, 2):
                pl_module.room = 20 if trainer.current_epoch == 0 else 40
                self.scale_batch_size(trainer, pl_module)

    module = Sized(samples=96)
    run = trainer(callbacks=[Late(steps_per_trial=1)], max_epochs=3)
    run.fit(module)
    assert module.sizes == [2, 4, 8, 16, 32] + 12 * [16] + [2, 4, 8, 16, 32, 64] + 3 * [32]
    assert run.global_step == 15
    assert run.current_epoch == 3


def test_no_memory_for_a_single_sample():
    module = Sized(room=0)
    with pytest.raises(RuntimeError, match="out of memory"):
        Tuner(trainer()).scale_batch_size(module)
    assert module.hparams.batch_size == 4


def test_the_data_module_holds_the_size():
    class Data(L.LightningDataModule):
        def __init__(self):
            super().__init__()
            self.batch_size = 4

        def train_dataloader(self):
            return DataLoader(TensorDataset(torch.ones(500, 4)), batch_size=self.batch_size)

    module, data = Sized(room=20), Data()
    assert Tuner(trainer()).scale_batch_size(module, datamodule=data) == 16
    assert data.batch_size == module.hparams.batch_size == 16


def test_loaders_that_ignore_the_size_are_told():
    module = Sized()
    module.train_dataloader = lambda: DataLoader(TensorDataset(torch.ones(50, 4)), batch_size=5)
    with pytest.warns(UserWarning, match="makes batches of 5:"):
        Tuner(trainer()).scale_batch_size(module, max_trials=2)


def test_fast_dev_run_makes_none():
    with pytest.warns(UserWarning, match="Skipping batch size scaler"):
        assert Tuner(trainer(fast_dev_run=True)).scale_batch_size(Sized()) is None


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"mode": "cubic"}, ValueError, "should be either of"),
        ({"margin": 1.0}, ValueError, "between 0 and 1"),
        ({"steps_per_trial": 0}, ValueError, "steps_per_trial"),
        ({"init_val": 9, "max_val": 8}, ValueError, "max_val"),
        ({"method": "prediction"}, ValueError, "is invalid"),
        ({"batch_arg_name": "nothing"}, MisconfigurationException, "Field nothing not found"),
        ({"train_dataloaders": [1]}, MisconfigurationException, "passed directly to `.fit"),
        ({"dataloaders": [1], "method": "test"}, MisconfigurationException, "passed directly to `.test"),
        ({"dataloaders": [1]}, MisconfigurationException, "consider setting `train_dataloaders`"),
        ({"val_dataloaders": [1], "method": "test"}, MisconfigurationException, "consider setting `dataloaders`"),
    ],
)
def test_mistakes_are_named(options, error, text):
    with pytest.raises(error, match=text):
        Tuner(trainer()).scale_batch_size(Sized(), **options)


def test_several_loaders_of_an_evaluation():
    module = Sized()
    module.test_dataloader = lambda: [module.loader(), module.loader()]
    with pytest.raises(MisconfigurationException, match="multiple test dataloaders"):
        Tuner(trainer()).scale_batch_size(module, method="test")


def test_callback_and_tuner_together_are_refused():
    with pytest.raises(ValueError, match="already configured with a `BatchSizeFinder`"):
        Tuner(trainer(callbacks=[BatchSizeFinder()])).scale_batch_size(Sized())
