"""Loaders made ready: sources, samplers, limits, warnings."""

from __future__ import annotations

import multiprocessing
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

import fulmen as L
from fulmen.trainer import data_loaders
from fulmen.trainer.data import BatchIndexRecorder, Sources, batch_index_recorders, load
from fulmen.trainer.data_loaders import with_sampler
from fulmen.trainer.states import RunningStage, TrainerFn
from fulmen.utilities.combined_loader import CombinedLoader
from fulmen.utilities.exceptions import MisconfigurationException
from fulmen.utilities.warnings import PossibleUserWarning

FIT, PREDICT = RunningStage.TRAINING, RunningStage.PREDICTING
VALIDATE, TEST = RunningStage.VALIDATING, RunningStage.TESTING


class Net(L.LightningModule):
    def training_step(self, batch, batch_idx): ...

    def validation_step(self, batch, batch_idx): ...

    def test_step(self, batch, batch_idx): ...


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(5))


def trainer_of(module=None, datamodule=None, fn=TrainerFn.FITTING, ranks=1, rank=0, settings=None, **loaders):
    """As much of a trainer as the data needs."""
    strategy = SimpleNamespace(
        barrier=lambda name=None: None,
        process_dataloader=lambda loader: loader,
        root_device=torch.device("cpu"),
        reduce=lambda tensor, reduce_op: tensor,
    )
    trainer = SimpleNamespace(
        lightning_module=module or Net(),
        datamodule=None,
        strategy=strategy,
        state=SimpleNamespace(fn=fn, stage=None),
        fit_loop=SimpleNamespace(epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=0))),
        _hook=None,
        _config=SimpleNamespace(use_distributed_sampler=True, prefetch="auto", worker_seeding="batch"),
        _devices=SimpleNamespace(is_distributed=ranks > 1),
        distributed_sampler_kwargs={"num_replicas": ranks, "rank": rank},
        num_devices=1,
        global_rank=rank,
        overfit_batches=0.0,
        limit_train_batches=1.0,
        limit_val_batches=1.0,
        limit_test_batches=1.0,
        limit_predict_batches=1.0,
        reload_dataloaders_every_n_epochs=0,
        loggers=[],
        log_every_n_steps=50,
        fast_dev_run=False,
    )
    vars(trainer).update(settings or {})
    trainer._sources = Sources(trainer)
    trainer._sources.attach(trainer.lightning_module, datamodule, **loaders)
    return trainer


# ---- sources --------------------------------------------------------------------------------------------------------


class Hooked(Net):
    def train_dataloader(self):
        self.seen = self.trainer_seen._hook
        return range(3)


def test_arguments_before_hooks():
    module = Hooked()
    trainer = module.trainer_seen = trainer_of(module)
    assert trainer._sources.has("train")
    assert not trainer._sources.has("val")
    assert trainer._sources.get("train") == range(3)
    assert module.seen == "train_dataloader"
    assert trainer._hook is None
    trainer._sources.attach(module, None, train=[1], val=[2])
    assert trainer._sources.get("train") == [1]
    assert trainer._sources.has("val")
    trainer._sources.attach(module, None)
    assert not trainer._sources.has("val")
    with pytest.raises(KeyError, match="training"):
        trainer._sources.attach(module, None, training=[1])


def test_a_datamodule_stands_for_everything():
    class Data(L.LightningDataModule):
        def val_dataloader(self):
            return [range(2)]

    datamodule = Data()
    trainer = trainer_of(Hooked(), datamodule)
    assert trainer.datamodule is datamodule
    assert datamodule.trainer is trainer
    assert trainer._sources.has("val")
    assert not trainer._sources.has("train")
    with pytest.raises(MisconfigurationException, match="train_dataloader"):
        load(trainer, FIT)


def test_missing_loader():
    with pytest.raises(MisconfigurationException, match="train_dataloader"):
        load(trainer_of(), FIT)


@pytest.mark.parametrize(
    ("fn", "stage", "kind", "argument"),
    [
        (TrainerFn.FITTING, FIT, "train", r"fit\(train_dataloaders"),
        (TrainerFn.FITTING, VALIDATE, "val", r"fit\(val_dataloaders"),
        (TrainerFn.VALIDATING, VALIDATE, "val", r"validate\(dataloaders"),
        (TrainerFn.PREDICTING, PREDICT, "predict", r"predict\(dataloaders"),
    ],
)
def test_not_iterable(fn, stage, kind, argument):
    trainer = trainer_of(fn=fn, **{kind: {"a": 5, "b": [range(1)]}})
    with pytest.raises(TypeError, match=f"invalid dataloader was passed to `Trainer.{argument}=.*Found 5"):
        load(trainer, stage)


def test_not_iterable_from_a_hook():
    class Bad(Net):
        def val_dataloader(self):
            return object()

    with pytest.raises(TypeError, match=r"returned from `Bad.val_dataloader\(\)`"):
        load(trainer_of(Bad()), VALIDATE)


# ---- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "loaders", "limits", "total"),
    [
        (1.0, range(5), [5], 5),
        (2, range(5), [2], 2),
        (9, range(5), [5], 5),
        (0.5, range(5), [2], 2),
        (0.5, {"a": range(5), "b": range(2)}, [2, 1], 2),
        (1.0, Stream(), [None], None),
        (3, Stream(), [3], 3),
        (0.5, [range(4), range(2)], [2, 1], 2),
    ],
)
def test_training_limits(limit, loaders, limits, total, recwarn):
    ready = load(trainer_of(train=loaders, settings={"limit_train_batches": limit}), FIT)
    assert (ready.limits, ready.num_batches) == (limits, total)
    assert ready.combined._mode == "max_size_cycle"
    feed = ready.feed()
    assert feed.length == total
    assert len(list(feed)) == (5 if total is None else total)


def test_evaluation_limits():
    ready = load(trainer_of(val=[range(5), Stream()], settings={"limit_val_batches": 3}), VALIDATE)
    assert (ready.limits, ready.num_batches) == ([3, 3], 6)
    assert ready.combined._mode == "sequential"
    assert len(list(ready.feed(limits=[1, 2]))) == 3
    assert len(list(ready.feed())) == 6
    ready = load(trainer_of(val=[range(5), Stream()]), VALIDATE)
    assert (ready.limits, ready.num_batches) == ([5, None], None)
    assert len(list(ready.feed(limits=[1, float("inf")]))) == 6


def test_impossible_limits():
    with pytest.raises(MisconfigurationException, match=r"IterableDataset`.*limit_val_batches\)`.*`1.0` or an int"):
        load(trainer_of(val=Stream(), settings={"limit_val_batches": 0.5}), VALIDATE)
    with pytest.raises(MisconfigurationException, match="limit_train_batches.*0.1"):
        load(trainer_of(train=range(5), settings={"limit_train_batches": 0.1}), FIT)


@pytest.mark.parametrize(
    ("stage", "settings", "module"),
    [
        (FIT, {"limit_train_batches": 0}, None),
        (VALIDATE, {"limit_val_batches": 0.0}, None),
        (PREDICT, {"limit_predict_batches": 0}, None),
        (TEST, {}, L.LightningModule),
    ],
)
def test_nothing_to_do_asks_for_nothing(stage, settings, module):
    trainer = trainer_of(module() if module else None, settings=settings)
    ready = load(trainer, stage)
    assert (ready.combined, ready.limits, ready.num_batches, ready.state()) == (None, [], 0, [])
    ready.set_epoch(1)
    assert batch_index_recorders(ready) == []


def test_empty_loader_warns():
    with pytest.warns(UserWarning, match="Total length of `range` across ranks is zero"):
        assert load(trainer_of(train=range(0)), FIT).num_batches == 0


def test_rare_logging_warns(recwarn):
    settings = {"loggers": [object()], "log_every_n_steps": 6}
    with pytest.warns(PossibleUserWarning, match=r"training batches \(5\) is smaller than the logging interval"):
        load(trainer_of(train=range(5), settings=settings), FIT)
    for quiet in ({"loggers": []}, {"log_every_n_steps": 5}, {"fast_dev_run": 1}):
        load(trainer_of(train=range(5), settings={**settings, **quiet}), FIT)
    assert not recwarn.list


def test_modes():
    loader = CombinedLoader([range(2)], "min_size")
    assert load(trainer_of(train=loader), FIT).combined is loader
    assert load(trainer_of(val=loader), VALIDATE).num_batches == 2
    with pytest.raises(ValueError, match=r"`trainer.predict\(\)` only supports"):
        load(trainer_of(predict=loader), PREDICT)
    with pytest.raises(ValueError, match="FitLoop` does not support"):
        data_loaders.check_mode(CombinedLoader([range(2)], "sequential"), FIT)


# ---- samplers -------------------------------------------------------------------------------------------------------


def rows(loader):
    return [batch.tolist() for batch in loader]


def test_one_process_keeps_the_loader():
    loader = DataLoader(range(4), shuffle=True)
    ready = load(trainer_of(train=loader), FIT)
    assert ready.combined.iterables is loader


def test_predict_keeps_the_last_batch_and_records():
    loader = DataLoader(range(5), batch_size=2, drop_last=True)
    loader.extra = "kept"
    ready = load(trainer_of(fn=TrainerFn.PREDICTING, predict=[loader, range(3), DataLoader(Stream())]), PREDICT)
    new = ready.combined.flattened[0]
    assert type(new) is DataLoader
    assert new.extra == "kept"
    assert ready.limits == [3, 3, None]
    batches = [item[0] for item in ready.feed(limits=[3, 0, 0])]
    assert [b.tolist() for b in batches] == [[0, 1], [2, 3], [4]]
    with pytest.warns(UserWarning, match="Couldn't infer the batch indices"):
        recorders = batch_index_recorders(ready, warn=True)
    assert recorders[0].seen_batch_indices == [[0, 1], [2, 3], [4]]
    assert recorders[1:] == [None, None]
    assert rows(loader) == [[0, 1], [2, 3]]


def test_predict_draws_as_the_loader_would():
    def draw(change):
        torch.manual_seed(3)
        loader = DataLoader(range(6), batch_size=2, shuffle=True)
        return rows(with_sampler(loader, loader.sampler, PREDICT) if change else loader), torch.rand(())

    assert draw(True) == draw(False)


@pytest.mark.parametrize("persistent", [False, True])
def test_copies_with_workers(persistent):
    loader = DataLoader(range(4), 2, num_workers=1, persistent_workers=persistent)
    first = iter(loader)
    new = with_sampler(loader, SubsetRandomSampler([3]), None)
    assert rows(new) == [[3]]
    assert [b.tolist() for b in first] == [[0, 1], [2, 3]]


def test_distributed_sampler_in_training(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    seen = []
    for rank in range(2):
        ready = load(trainer_of(ranks=2, rank=rank, train=DataLoader(range(8), batch_size=2)), FIT)
        sampler = ready.combined.iterables.sampler
        assert type(sampler) is DistributedSampler
        assert (sampler.shuffle, sampler.seed, sampler.rank) == (True, 5, rank)
        assert ready.num_batches == 2
        ready.set_epoch(3)
        assert sampler.epoch == 3
        seen += [i for batch in ready.feed() for i in batch[0].tolist()]
    assert sorted(seen) == list(range(8))


@pytest.mark.parametrize(
    ("stage", "fn", "loader", "kind", "shuffle"),
    [
        (VALIDATE, TrainerFn.FITTING, DataLoader(range(4)), "DistributedSampler", False),
        (VALIDATE, TrainerFn.FITTING, DataLoader(range(4), shuffle=True), "DistributedSampler", True),
        (TEST, TrainerFn.TESTING, DataLoader(range(4)), "DistributedSampler", False),
        (
            FIT,
            TrainerFn.FITTING,
            DataLoader(range(4), sampler=SubsetRandomSampler([1])),
            "DistributedSamplerWrapper",
            True,
        ),
        (PREDICT, TrainerFn.PREDICTING, DataLoader(range(4)), "UnrepeatedDistributedSamplerWrapper", False),
        (FIT, TrainerFn.FITTING, DataLoader(Stream()), "_InfiniteConstantSampler", None),
    ],
)
def test_distributed_samplers(stage, fn, loader, kind, shuffle, recwarn):
    trainer = trainer_of(fn=fn, ranks=2, **{stage.dataloader_prefix: loader})
    sampler = load(trainer, stage).combined.flattened[0].sampler
    assert type(sampler).__name__ == kind
    assert getattr(sampler, "shuffle", None) is shuffle
    texts = " ".join(str(w.message) for w in recwarn.list)
    assert ("shuffling enabled" in texts) is (stage is VALIDATE and bool(shuffle))
    assert ("`DistributedSampler` with the dataloaders" in texts) is (fn is TrainerFn.TESTING)


def test_distributed_samplers_that_are_left_alone():
    own = DataLoader(range(4), sampler=DistributedSampler(range(4), 2, 0))
    assert load(trainer_of(ranks=2, train=own), FIT).combined.iterables is own
    plain = DataLoader(range(4))
    settings = {"_config": SimpleNamespace(use_distributed_sampler=False, prefetch="auto", worker_seeding="batch")}
    assert load(trainer_of(ranks=2, train=plain, settings=settings), FIT).combined.iterables is plain


def test_overfit_turns_shuffling_off():
    settings = {"overfit_batches": 1, "limit_train_batches": 1}
    loaders = {"a": DataLoader(range(4), shuffle=True), "b": DataLoader(range(4)), "c": range(4)}
    with pytest.warns(UserWarning, match="overfit but enabled train dataloader shuffling"):
        ready = load(trainer_of(train=loaders, settings=settings), FIT)
    assert isinstance(ready.combined.iterables["a"].sampler, SequentialSampler)
    assert isinstance(loaders["a"].sampler, RandomSampler)
    ready = load(trainer_of(ranks=2, train=DataLoader(range(4)), settings=settings), FIT)
    assert ready.combined.iterables.sampler.shuffle is False


class Positional:
    """A batch sampler with the usual arguments, but no attribute for its sampler."""

    def __init__(self, source, batch_size, drop_last):
        self.indices, self.batch_size, self.drop_last = list(source), batch_size, drop_last

    def __iter__(self):
        return iter([self.indices])

    def __len__(self):
        return 1


class Pairs(BatchSampler):
    """One with an argument of its own."""

    def __init__(self, sampler, step):
        super().__init__(sampler, 2, True)
        self.step = step

    def __iter__(self):
        return ([i * self.step for i in batch] for batch in super().__iter__())


class Unknown:
    def __iter__(self):
        return iter([[0]])


def test_custom_batch_samplers():
    loader = DataLoader(range(20), batch_sampler=Pairs(SequentialSampler(range(3)), 2))
    assert rows(with_sampler(loader, [5, 6, 7], FIT)) == [[10, 12]]
    assert rows(with_sampler(loader, [5, 6, 7], PREDICT)) == [[10, 12], [14]]
    assert rows(loader) == [[0, 2]]
    loader = DataLoader(range(20), batch_sampler=Positional([1], 1, True))
    new = with_sampler(loader, [5, 6], PREDICT)
    assert rows(new) == [[5, 6]]
    assert new.batch_sampler.drop_last is False


def test_batch_samplers_that_cannot_take_a_sampler():
    loader = DataLoader(range(4), batch_sampler=Unknown())
    with pytest.raises(TypeError, match="inject a .*sampler into your batch sampler `Unknown`"):
        with_sampler(loader, [1], FIT)
    with pytest.warns(PossibleUserWarning, match="custom batch sampler `Unknown` for prediction"):
        new = with_sampler(loader, [1], PREDICT)
    assert isinstance(new.batch_sampler, BatchIndexRecorder)
    odd = Positional([1], 1, True)
    odd.__class__ = type("Odd", (Unknown,), {"__init__": lambda self, x: None})
    with pytest.raises(TypeError, match="`Odd`"):
        with_sampler(DataLoader(range(4), batch_sampler=odd), [1], FIT)


# ---- the rest -------------------------------------------------------------------------------------------------------


def test_strategy_sees_every_loader():
    trainer = trainer_of(train={"a": range(2), "b": range(3)})
    trainer.strategy.process_dataloader = lambda loader: [loader[-1]] * 4
    ready = load(trainer, FIT)
    assert ready.combined.iterables == {"a": [1] * 4, "b": [2] * 4}
    assert ready.num_batches == 4


def test_set_epoch_once_per_sampler():
    class Counting:
        def __init__(self):
            self.epochs = []

        def __iter__(self):
            return iter([0])

        def __len__(self):
            return 1

        def set_epoch(self, epoch):
            self.epochs.append(epoch)

    a, b = Counting(), Counting()
    loaders = [
        DataLoader(range(2), sampler=a),
        DataLoader(range(2), batch_sampler=BatchSampler(b, 1, False)),
        [[1], [2]],
    ]
    trainer = trainer_of(train=loaders, val=loaders)
    load(trainer, FIT).set_epoch(4)
    assert (a.epochs, b.epochs) == ([4], [4])
    trainer.fit_loop.epoch_progress.current.processed = 7
    load(trainer, VALIDATE).feed()
    assert (a.epochs, b.epochs) == ([4, 7], [4, 7])


def test_workers_are_seeded(monkeypatch):
    monkeypatch.setenv("PL_SEED_WORKERS", "1")
    own, other = (lambda worker: None), DataLoader(range(2))
    loaders = [other, DataLoader(range(2), worker_init_fn=own)]
    load(trainer_of(rank=3, train=loaders), FIT)
    assert other.worker_init_fn.keywords == {"rank": 3}
    assert loaders[1].worker_init_fn is own


def test_few_workers_warn(monkeypatch, recwarn):
    monkeypatch.setattr(data_loaders, "suggested_max_num_workers", lambda n: 7)
    load(trainer_of(train=DataLoader(range(2), num_workers=2)), FIT)
    assert not recwarn.list
    for stage, name in ((FIT, "train"), (VALIDATE, "val"), (TEST, "test"), (PREDICT, "predict")):
        with pytest.warns(PossibleUserWarning, match=f"The '{name}_dataloader' does not have many workers.*workers=7"):
            load(trainer_of(**{name: DataLoader(range(2), num_workers=1)}), stage)


def test_workers_that_start_slowly_warn():
    loader = DataLoader(range(2), num_workers=2, multiprocessing_context="spawn")
    with pytest.warns(UserWarning, match="persistent_workers=True.*train_dataloader"):
        load(trainer_of(train=loader), FIT)
    loader = DataLoader(range(2), num_workers=2, persistent_workers=True, pin_memory=True)
    with pytest.warns(PossibleUserWarning, match="pin_memory=False"):
        load(trainer_of(train=loader, settings={"reload_dataloaders_every_n_epochs": 1}), FIT)


def test_shuffled_evaluation_warns():
    for stage, name in ((VALIDATE, "val"), (TEST, "test"), (PREDICT, "predict")):
        with pytest.warns(PossibleUserWarning, match=f"`{name}_dataloader`'s sampler has shuffling enabled"):
            load(trainer_of(**{name: DataLoader(range(2), shuffle=True)}), stage)


class Stateful:
    position = 0

    def __iter__(self):
        yield from range(self.position, 4)

    def __len__(self):
        return 4

    def state_dict(self):
        return {"position": 2}

    def load_state_dict(self, state_dict):
        self.position = state_dict["position"]


def test_stateful_loaders_go_on_where_they_were():
    ready = load(trainer_of(train=Stateful()), FIT)
    ready.load_state([])
    assert [item[0] for item in ready.feed()] == [0, 1, 2, 3]
    ready.load_state(ready.state())
    feed = ready.feed()
    feed.skip(2)
    assert [item[:2] for item in feed] == [(2, 2), (3, 3)]


@pytest.mark.parametrize("ends", [True, False])
def test_workers_stay_until_the_loaders_are_closed(ends):
    ready = load(trainer_of(train=DataLoader(range(4), num_workers=1)), FIT)
    feed = ready.feed()
    for _ in feed:
        if not ends:
            break
    workers = multiprocessing.active_children()
    assert workers
    second = ready.feed()
    assert multiprocessing.active_children() == workers
    assert len(list(second)) == 4
    ready.close()
    assert not any(worker.is_alive() for worker in workers)
    assert len(list(ready.feed())) == 4
    ready.close()
    load(trainer_of(train=range(2)), FIT).close()
