"""Averages of weights: arguments, state, and runs that were cut short."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fulmen as L
from fulmen.callbacks import EMAWeightAveraging, ModelCheckpoint, StochasticWeightAveraging, WeightAveraging
from fulmen.demos.boring_classes import BoringModel
from fulmen.utilities.exceptions import MisconfigurationException


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"swa_lrs": -1.0}, "positive float"),
        ({"swa_lrs": 1}, "positive float"),
        ({"swa_lrs": [0.1, 0]}, "positive float"),
        ({"swa_lrs": 0.1, "swa_epoch_start": 0}, ">0 integer or a float between 0 and 1"),
        ({"swa_lrs": 0.1, "swa_epoch_start": 1.5}, ">0 integer or a float between 0 and 1"),
        ({"swa_lrs": 0.1, "avg_fn": 2}, "callable"),
        ({"swa_lrs": 0.1, "device": 3}, "torch.device or a str"),
    ],
)
def test_swa_refuses(options, text):
    with pytest.raises(MisconfigurationException, match=text):
        StochasticWeightAveraging(**options)


def test_swa_mean_is_the_mean():
    mean, models = nn.Linear(2, 2), [nn.Linear(2, 2) for _ in range(3)]
    count = torch.tensor(0)
    for model in models:
        StochasticWeightAveraging.update_parameters(mean, model, count, StochasticWeightAveraging.avg_fn)
    assert count == 3
    torch.testing.assert_close(mean.weight, torch.stack([m.weight for m in models]).mean(0))


class Norm(L.LightningModule):
    """Batch norm over data whose mean is 3, so that wrong statistics show."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(2), nn.Linear(2, 1)
        self.stop_at = stop_at

    def training_step(self, batch, batch_idx):
        if self.stop_at == (self.current_epoch, batch_idx):
            raise RuntimeError("cut short")
        return self.out(self.norm(batch[0])).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def data():
    return torch.randn(20, 2, generator=torch.Generator().manual_seed(1)) + 3


def fit_swa(folder, stop_at=None, ckpt_path=None, swa=None):
    torch.manual_seed(0)
    module = Norm(stop_at)
    trainer = L.Trainer(
        max_epochs=3, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        callbacks=[
            swa or StochasticWeightAveraging(0.05, swa_epoch_start=1),
            ModelCheckpoint(folder, filename="{epoch}-{step}", every_n_train_steps=1, save_top_k=-1),
        ],
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(data()), batch_size=4), ckpt_path=ckpt_path)
    return module, trainer


def test_statistics_are_those_of_the_averaged_weights_input(tmp_path):
    module, trainer = fit_swa(tmp_path)
    # the input of the norm does not depend on weights: equal weights over the epoch's batches
    batches = data().split(4)
    torch.testing.assert_close(module.norm.running_mean, torch.stack([b.mean(0) for b in batches]).mean(0))
    torch.testing.assert_close(module.norm.running_var, torch.stack([b.var(0) for b in batches]).mean(0))
    assert module.norm.num_batches_tracked == len(batches)
    assert module.norm.momentum == 0.1
    assert (trainer.max_epochs, trainer.accumulate_grad_batches, trainer.global_step) == (3, 1, 16)


def test_stale_gradients_do_not_touch_the_averaged_weights(tmp_path):
    """Without a validation nothing zeroes the last batch's gradients before the epoch of statistics."""
    swa = StochasticWeightAveraging(0.05, swa_epoch_start=1)
    module, _ = fit_swa(tmp_path, swa=swa)
    assert module.out.weight.grad is not None
    for mean, final in zip(swa._average_model.parameters(), module.parameters(), strict=True):
        assert torch.equal(mean, final)


@pytest.mark.parametrize("stop_at", [(1, 3), (2, 0), (2, 2), (3, 0)])
def test_swa_cut_short_and_resumed_ends_the_same(tmp_path, stop_at):
    whole, _ = fit_swa(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="cut short"):
        fit_swa(tmp_path / "cut", stop_at)
    newest = max((tmp_path / "cut").glob("*.ckpt"), key=lambda p: int(p.stem.split("step=")[1]))
    resumed, _ = fit_swa(tmp_path / "again", ckpt_path=newest)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_ema_moments():
    every = EMAWeightAveraging(update_every_n_steps=4, update_starting_at_step=5, update_starting_at_epoch=2)
    assert [s for s in range(14) if every.should_update(step_idx=s)] == [8, 12]
    assert [e for e in range(4) if every.should_update(epoch_idx=e)] == [2, 3]
    assert not EMAWeightAveraging(update_every_n_steps=0).should_update(step_idx=0)
    assert not EMAWeightAveraging().should_update(epoch_idx=5)


def test_file_without_average_starts_one_from_its_weights(tmp_path):
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "limit_train_batches": 2,
               "limit_val_batches": 0, "accelerator": "cpu"}  # fmt: skip
    first = L.Trainer(max_epochs=1, **options)
    first.fit(BoringModel())
    first.save_checkpoint(tmp_path / "plain.ckpt")
    weights = torch.load(tmp_path / "plain.ckpt", weights_only=True)["state_dict"]["layer.weight"]

    class Watch(WeightAveraging):
        def on_train_start(self, trainer, pl_module):
            self.start = self._average_model.module.layer.weight.clone()

    callback = Watch()
    with pytest.warns(UserWarning, match="saved without this callback"):
        L.Trainer(max_epochs=2, callbacks=callback, enable_checkpointing=False, **options).fit(
            BoringModel(), ckpt_path=tmp_path / "plain.ckpt"
        )
    assert torch.equal(callback.start, weights)


def test_file_saved_within_a_validation_has_both_in_their_places(tmp_path):
    seen = {}

    class Save(L.Callback):
        def on_validation_epoch_start(self, trainer, pl_module):
            if not trainer.sanity_checking:
                trainer.save_checkpoint(tmp_path / "within.ckpt")
                seen.update(trained=averaging._average_model.module.layer.weight.clone())

    averaging = WeightAveraging()
    L.Trainer(
        max_epochs=1, callbacks=[averaging, Save()], logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, limit_train_batches=4, limit_val_batches=1, accelerator="cpu",
    ).fit(BoringModel())  # fmt: skip
    file = torch.load(tmp_path / "within.ckpt", weights_only=False)
    assert torch.equal(file["current_model_state"]["layer.weight"], seen["trained"])
    assert not torch.equal(file["state_dict"]["layer.weight"], seen["trained"])
