"""Hooks that Lightning 2.0 removed."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import fulmen
from fulmen.trainer.legacy import EpochEndHooks
from fulmen.utilities.exceptions import MisconfigurationException
from fulmen.utilities.rank_zero import LightningDeprecationWarning


def loader(batches=3):
    return DataLoader(TensorDataset(torch.arange(2.0 * batches).reshape(-1, 1)), batch_size=2)


def trainer(**options):
    return fulmen.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 2, "num_sanity_val_steps": 0, **options},
    )


class Net(fulmen.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.calls = []

    def training_step(self, batch, batch_idx):
        return {"loss": self.layer(batch[0]).mean(), "index": batch_idx}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class EpochEnds(Net):
    def training_epoch_end(self, outputs):
        self.calls.append(("train", [o["index"] for o in outputs], outputs[0]["loss"].requires_grad))
        self.log("from_train", float(len(outputs)))

    def on_train_epoch_end(self):
        self.calls.append("on_train_epoch_end")

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        return None if batch_idx == 1 else (dataloader_idx, batch_idx)

    def validation_epoch_end(self, outputs):
        self.calls.append(("val", outputs))
        self.log("from_val", 7.0)

    def test_step(self, batch, batch_idx):
        return batch_idx

    def test_epoch_end(self, outputs):
        self.calls.append(("test", outputs))


def test_outputs_of_an_epoch_arrive_before_the_new_hook():
    module, t = EpochEnds(), trainer()
    with pytest.warns(LightningDeprecationWarning, match="on_train_epoch_end"):
        t.fit(module, loader(), loader())
    epoch = [("val", [(0, 0), (0, 2)]), ("train", [0, 1, 2], False), "on_train_epoch_end"]
    assert module.calls == epoch * 2
    assert float(t.callback_metrics["from_train"]) == 3 and float(t.callback_metrics["from_val"]) == 7


def test_several_loaders_give_a_list_each():
    module = EpochEnds()
    with pytest.warns(LightningDeprecationWarning):
        trainer().validate(module, [loader(1), loader(3)], verbose=False)
    assert module.calls == [("val", [[(0, 0)], [(1, 0), (1, 2)]])]


def test_a_warning_for_each_hook_and_run():
    module = EpochEnds()
    with pytest.warns(LightningDeprecationWarning) as seen:
        trainer().test(module, loader(), verbose=False)
    texts = [str(w.message) for w in seen if issubclass(w.category, LightningDeprecationWarning)]
    assert len(texts) == 3 and module.calls == [("test", [0, 1, 2])]


def test_the_gathering_callback_is_there_once_and_goes_with_the_module():
    module, t = EpochEnds(), trainer()
    with pytest.warns(LightningDeprecationWarning):
        t.test(module, loader(), verbose=False)
        t.test(module, loader(), verbose=False)
    assert [type(c) for c in t.callbacks] == [EpochEndHooks]
    t.fit(Net(), loader())
    assert t.callbacks == []


def test_a_returned_value_is_refused():
    class Returns(Net):
        def training_epoch_end(self, outputs):
            return {"loss": 1}

    with pytest.warns(LightningDeprecationWarning), pytest.raises(MisconfigurationException, match="no return value"):
        trainer().fit(Returns(), loader())


class Two(fulmen.LightningModule):
    """Two optimizers, the 1.x way."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
        self.seen = []

    def training_step(self, batch, batch_idx, optimizer_idx):
        needs = [all(p.requires_grad for p in layer.parameters()) for layer in (self.a, self.b)]
        self.seen.append((batch_idx, optimizer_idx, needs))
        return ((self.b(self.a(batch[0])) - optimizer_idx) ** 2).mean()

    def configure_optimizers(self):
        return [torch.optim.SGD(self.a.parameters(), lr=0.01), torch.optim.SGD(self.b.parameters(), lr=0.01)]


def by_hand(module, batches):
    optimizers = module.configure_optimizers()
    for (x,) in batches:
        for index, (optimizer, frozen) in enumerate(zip(optimizers, (module.b, module.a), strict=True)):
            frozen.requires_grad_(False)
            loss = ((module.b(module.a(x)) - index) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            frozen.requires_grad_(True)
    return module


def test_optimizer_idx_steps_every_optimizer_with_only_its_own_gradients():
    module, t = Two(), trainer(max_epochs=1)
    with pytest.warns(LightningDeprecationWarning, match="optimizer_idx"):
        t.fit(module, loader())
    assert module.seen == [(b, i, [i == 0, i == 1]) for b in range(3) for i in range(2)]
    assert t.global_step == 6
    assert all(p.requires_grad for p in module.parameters())
    expected = by_hand(Two(), loader())
    for name, parameter in module.state_dict().items():
        assert torch.equal(parameter, expected.state_dict()[name]), name


def test_several_optimizers_without_optimizer_idx_are_refused():
    class NoIndex(Two):
        def training_step(self, batch, batch_idx):
            return self.a(batch[0]).mean()

    with pytest.raises(RuntimeError, match="multiple optimizers"):
        trainer().fit(NoIndex(), loader())


def test_resume_from_checkpoint_is_taken_by_fit(tmp_path):
    first = trainer(max_epochs=1)
    first.fit(Net(), loader())
    first.save_checkpoint(tmp_path / "a.ckpt")
    with pytest.warns(LightningDeprecationWarning, match="ckpt_path"):
        second = trainer(resume_from_checkpoint=tmp_path / "a.ckpt")
    second.fit(Net(), loader())
    assert (second.global_step, second.current_epoch) == (6, 2)
    third = trainer(max_epochs=1)
    third.fit(Net(), loader())
    assert third.global_step == 3


def test_optimizer_idx_with_one_optimizer_is_refused():
    class One(Two):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    with pytest.raises(RuntimeError, match="Remove the `optimizer_idx` argument"):
        trainer().fit(One(), loader())
