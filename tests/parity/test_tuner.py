"""The tuner beside Lightning's: the same rates and losses, the same suggestion, the same sizes."""

import random

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import fulmen
from fulmen.tuner import Tuner
from fulmen.tuner.lr_curve import LRFinder

lightning = pytest.importorskip("lightning.pytorch")


def net(L, samples=48, size=2, room=None, groups=False):
    class Net(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.lr, self.batch_size, self.sizes = 0.1, size, []
            self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))

        def training_step(self, batch, batch_idx):
            self.sizes.append(len(batch[0]))
            if room is not None and len(batch[0]) > room:
                raise RuntimeError("CUDA error: out of memory")
            return (self.layers(batch[0]) - batch[0].sum(1, keepdim=True)).pow(2).mean()

        def validation_step(self, batch, batch_idx):
            torch.rand(1)

        def configure_optimizers(self):
            first, second = self.layers[0].parameters(), self.layers[2].parameters()
            split = [{"params": first, "lr": 0.5}, {"params": second}]
            return torch.optim.SGD(split if groups else self.parameters(), lr=self.lr, momentum=0.9)

        def train_dataloader(self):
            x = torch.randn(samples, 4, generator=torch.Generator().manual_seed(1))
            return DataLoader(TensorDataset(x), batch_size=self.batch_size, shuffle=True)

        def val_dataloader(self):
            return self.train_dataloader()

    return Net()


def both(tmp_path, run, **module):
    """What ``run(tuner, module, trainer)`` gives with either package."""
    from lightning.pytorch.tuner import Tuner as TheirTuner

    results = []
    for L, kind in ((fulmen, Tuner), (lightning, TheirTuner)):
        L.seed_everything(11)
        made = net(L, **module)
        trainer = L.Trainer(
            default_root_dir=tmp_path, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, accelerator="cpu", **run.options,
        )  # fmt: skip
        results.append(run(kind(trainer), made, trainer))
    return results


SWEEPS = [
    ({}, {}),
    ({"max_epochs": 1}, {"early_stop_threshold": None}),
    ({"max_epochs": 4}, {"num_training": 30, "max_lr": 0.1, "early_stop_threshold": None}),
    ({"max_epochs": 4}, {"num_training": 40, "max_lr": 5.0, "mode": "linear"}),
    ({"max_epochs": 9, "accumulate_grad_batches": 5}, {"num_training": 30, "early_stop_threshold": None}),
    ({"max_epochs": 9, "gradient_clip_val": 0.1, "limit_train_batches": 7}, {"num_training": 30, "max_lr": 0.1}),
]


@pytest.mark.parametrize(("options", "arguments"), SWEEPS)
@pytest.mark.parametrize("groups", [False, True])
def test_sweeps(tmp_path, options, arguments, groups):
    def run(tuner, module, trainer):
        before = {name: value.clone() for name, value in module.state_dict().items()}
        found = tuner.lr_find(module, **arguments)
        assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
        return found.results, found.suggestion(), module.lr, found._total_batch_idx, torch.rand(1)

    run.options = options
    ours, theirs = both(tmp_path, run, samples=192, size=16, groups=groups)
    assert ours == theirs
    assert len(ours[0]["lr"]) >= 5


@pytest.mark.parametrize("seed", range(5))
def test_suggestions(seed):
    from lightning.pytorch.tuner.lr_finder import _LRFinder

    draw = random.Random(seed)
    rates = sorted(10 ** draw.uniform(-6, 0) for _ in range(60))
    losses = [draw.random() * 3 for _ in rates]
    for place in draw.sample(range(60), seed):
        losses[place] = draw.choice([float("nan"), float("inf")])
    found = []
    for kind in (LRFinder, _LRFinder):
        curve = kind("exponential", rates[0], rates[-1], 60)
        curve.results = {"lr": rates, "loss": losses}
        found.append([curve.suggestion(begin, end) for begin, end in ((10, 1), (0, 1), (5, 9), (57, 1), (59, 1))])
    assert found[0] == found[1]


@pytest.mark.parametrize("mode", ["power", "binsearch"])
@pytest.mark.parametrize(("room", "trials"), [(None, 25), (3, 25), (20, 25), (None, 2), (31, 4)])
def test_sizes(tmp_path, mode, room, trials):
    def run(tuner, module, trainer):
        found = tuner.scale_batch_size(module, mode=mode, steps_per_trial=1, max_trials=trials)
        return found, module.batch_size, module.sizes, trainer.train_dataloader.batch_size, trainer.global_step

    run.options = {"max_epochs": 1}
    ours, theirs = both(tmp_path, run, room=room)
    assert ours == theirs
