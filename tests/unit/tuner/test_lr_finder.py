"""The sweep over learning rates, its result, and how it is asked for."""

import math

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import fulmen as L
from fulmen.callbacks import LearningRateFinder
from fulmen.tuner import Tuner
from fulmen.tuner.lr_curve import LRFinder
from fulmen.utilities.exceptions import MisconfigurationException


class Line(L.LightningModule):
    def __init__(self, name="lr", optimizers=1, lr=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(4, 1)
        self.rates = []

    def training_step(self, batch, batch_idx):
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return (self.layer(batch[0]) - batch[0].sum(1, keepdim=True)).pow(2).mean()

    def configure_optimizers(self):
        made = [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(self.hparams.optimizers)]
        return made or None

    def train_dataloader(self):
        x = torch.randn(64, 4, generator=torch.Generator().manual_seed(2))
        return DataLoader(TensorDataset(x), batch_size=4)


def trainer(**options):
    L.seed_everything(3)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return L.Trainer(**{**quiet, "max_epochs": 10, "accelerator": "cpu", **options})


def curve(rates, losses):
    found = LRFinder("exponential", rates[0], rates[-1], len(rates))
    found.results = {"lr": list(rates), "loss": list(losses)}
    return found


def test_suggestion_is_where_the_loss_falls_fastest():
    rates = torch.linspace(0, 2 * math.pi, 1000).tolist()
    assert math.isclose(curve(rates, [math.sin(r) for r in rates]).suggestion(), math.pi, abs_tol=1e-2)


def test_suggestion_leaves_out_ends_and_what_is_not_finite():
    rates = [float(i) for i in range(1, 9)]
    losses = [100.0, 0.0, 9.0, float("nan"), 8.0, 4.0, float("inf"), 3.9]
    found = curve(rates, losses)
    assert found.suggestion(0, 0) == 1.0
    assert found.suggestion(2, 0) in (6.0, 5.0)
    assert found.suggestion(7, 0) is None
    assert found.suggestion() is None


def test_rates_of_both_modes():
    steps = LRFinder("linear", 0.0, 1.0, 10)
    assert [steps.rate(i) for i in (0, 1, 9)] == [0.0, 0.2, 1.0]
    factors = LRFinder("exponential", 1e-4, 1.0, 4)
    assert [factors.rate(i) for i in (0, 1, 3)] == pytest.approx([1e-4, 1e-2, 1.0])


def test_plot_draws_the_curve_and_the_suggestion():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    found = curve([10.0**i for i in range(-20, 0)], [20.0 - i for i in range(20)])
    (axes,) = found.plot(suggest=True).axes
    assert axes.get_xscale() == "log"
    assert [len(line.get_xdata()) for line in axes.lines] == [20, 1]
    assert found.plot(ax=axes) is axes.figure


def test_the_rate_is_set_in_module_and_optimizer():
    module, finder = Line(), LearningRateFinder(num_training_steps=30, early_stop_threshold=None)
    run = trainer(callbacks=[finder], max_epochs=3)
    run.fit(module)
    found = finder.optimal_lr.suggestion()
    assert found is not None
    assert module.hparams.lr == found
    assert module.rates[-1] == found
    assert len(module.rates) == 30 + 3 * 16


def test_max_epochs_bounds_the_sweep():
    found = Tuner(trainer(max_epochs=1)).lr_find(Line(), early_stop_threshold=None)
    assert len(found.results["lr"]) == len(found.results["loss"]) == 16


def test_with_accumulation_a_point_is_a_window():
    found = Tuner(trainer(accumulate_grad_batches=2, max_epochs=50)).lr_find(Line(), early_stop_threshold=None)
    assert len(found.results["lr"]) == len(found.results["loss"]) == 100
    assert found._total_batch_idx == 199


def test_a_diverging_loss_ends_the_sweep():
    found = Tuner(trainer()).lr_find(Line(), max_lr=1e6, num_training=60)
    assert 2 < len(found.results["lr"]) < 60
    assert found.results["loss"][-1] > 4 * min(found.results["loss"][:-1])


def test_another_attribute():
    module = Line()
    module.rate = 0.1
    found = Tuner(trainer()).lr_find(module, attr_name="rate", early_stop_threshold=None)
    assert module.rate == found.suggestion() != 0.1
    assert module.hparams.lr == 0.1


def test_fast_dev_run_makes_none():
    with pytest.warns(UserWarning, match="Skipping learning rate finder"):
        assert Tuner(trainer(fast_dev_run=True)).lr_find(Line()) is None


@pytest.mark.parametrize(
    ("module", "options", "error", "text"),
    [
        (Line, {"attr_name": "nothing"}, AttributeError, "could not find this as a field"),
        (lambda: Line(optimizers=0), {}, MisconfigurationException, "received 1 optimizers|single optimizer"),
        (Line, {"mode": "cubic"}, ValueError, "should be either of"),
        (Line, {"num_training": 0}, ValueError, "at least one learning rate"),
        (Line, {"min_lr": 0}, ValueError, "positive numbers"),
        (Line, {"method": "validate"}, MisconfigurationException, "only valid configuration"),
        (Line, {"dataloaders": []}, MisconfigurationException, "consider setting `train_dataloaders`"),
    ],
)
def test_mistakes_are_named(module, options, error, text):
    made = module()
    if made.hparams.optimizers == 0:
        made.automatic_optimization = False
        made.hparams.optimizers = 2
        text = "2 optimizers"
    with pytest.raises(error, match=text):
        Tuner(trainer()).lr_find(made, **options)


def test_without_a_rate_to_set():
    module = Line()
    del module.hparams["lr"]
    with pytest.raises(AttributeError, match="should have one of these fields"):
        Tuner(trainer()).lr_find(module)
    assert Tuner(trainer()).lr_find(module, update_attr=False, num_training=4) is not None


def test_callback_and_tuner_together_are_refused():
    with pytest.raises(ValueError, match="already configured with a `LearningRateFinder`"):
        Tuner(trainer(callbacks=[LearningRateFinder()])).lr_find(Line())
    with pytest.raises(ValueError, match="should be either of"):
        LearningRateFinder(mode="cubic")
