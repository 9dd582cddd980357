"""What each process does in `test_values.py`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torchmetrics
from torch.utils.data import DataLoader

import fulmen as L
from fulmen.loggers.logger import Logger
from fulmen.trainer import logging_sync
from tests.distributed.processes import RankedStrategy

REDUCTIONS = ("mean", "sum", "min", "max")
LEVELS = {"step": (True, False), "epoch": (False, True), "both": (True, True)}
KINDS = ("float32", "float64", "bfloat16", "int64", "number", "graph")
#: sizes of each rank's batches: neither as many nor as large everywhere
SIZES = ((2, 3, 1, 4), (1, 2), (5, 1, 2))


def batches(rank: int) -> list[torch.Tensor]:
    """Eighths: their sums are exact in every type."""
    generator = torch.Generator().manual_seed(rank)
    return [torch.randint(-40, 40, (size,), generator=generator) / 8 for size in SIZES[rank]]


def value(batch: torch.Tensor, kind: str) -> Any:
    """Something to log: the batch's first element, so that it is exact in every type."""
    first = batch[0]
    if kind == "graph":
        return first.clone().requires_grad_() * 1
    if kind == "number":
        return float(first)
    return first.to(getattr(torch, kind))


class Rows(Logger):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, Any]]] = []

    name, version = "rows", 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


def loader(items: list[torch.Tensor]) -> DataLoader:
    return DataLoader(items, batch_size=None)


def trainer(**arguments: Any) -> tuple[L.Trainer, Rows]:
    rows = Rows()
    made = L.Trainer(**{
        "strategy": RankedStrategy(), "accelerator": "cpu", "logger": rows, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False, "use_distributed_sampler": False, "max_epochs": 1,
        "log_every_n_steps": 1, **arguments,
    })  # fmt: skip
    return made, rows


class Silent(L.LightningModule):
    """Trains nothing; subclasses log."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> None:
        return None


class EveryKind(Silent):
    """Everything that can be reduced, at every level, in steps of training and validation and in hooks of epochs."""

    def log_all(self, batch: torch.Tensor, stage: str) -> None:
        for reduction in REDUCTIONS:
            for kind in KINDS:
                for level, (step, epoch) in LEVELS.items():
                    self.log(
                        f"{stage}_{reduction}_{kind}_{level}", value(batch, kind), on_step=step, on_epoch=epoch,
                        reduce_fx=reduction, sync_dist=True, enable_graph=kind == "graph",
                    )  # fmt: skip

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log_all(batch, "train")

    def validation_step(self, batch: torch.Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log_all(batch, "val")

    def on_train_epoch_start(self) -> None:
        self.log("start", float(self.global_rank + 1), sync_dist=True, reduce_fx="sum")

    def on_train_epoch_end(self) -> None:
        self.log("end", float(self.global_rank + 1), sync_dist=True, batch_size=self.global_rank + 1)
        self.log("end_max", float(self.global_rank + 1), sync_dist=True, reduce_fx="max")

    def on_validation_epoch_end(self) -> None:
        self.log("val_end", float(self.global_rank + 1), sync_dist=True, reduce_fx="min")


def plain(metrics: dict[str, torch.Tensor]) -> dict[str, tuple[float, str]]:
    return {name: (tensor.item(), str(tensor.dtype)) for name, tensor in metrics.items()}


def train(ranks: list[int]) -> dict[str, Any]:
    """Two epochs over the batches of these ranks."""
    made, rows = trainer(max_epochs=2)
    made.fit(EveryKind(), loader([batch for rank in ranks for batch in batches(rank)]))
    return {"callback": plain(made.callback_metrics), "logged": plain(made.logged_metrics), "rows": rows.rows}


def validate(ranks: list[int]) -> dict[str, Any]:
    """Two loaders; each rank has more in one than in the other."""
    items = [batch for rank in ranks for batch in batches(rank)]
    other = [batch for rank in ranks for batch in batches(rank)[:1] * (rank + 1)]
    made, rows = trainer()
    results = made.validate(EveryKind(), [loader(items), loader(other)], verbose=False)
    return {"results": results, "rows": rows.rows, "callback": plain(made.callback_metrics)}


def training(folder: Path) -> dict[str, Any]:
    return train([dist.get_rank()])


def validation(folder: Path) -> dict[str, Any]:
    return validate([dist.get_rank()])


def between_rows(folder: Path) -> list[dict[str, float]]:
    """What callbacks see of a step value after each of seven batches, with a row every three, and after the epoch."""

    class Look(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
            seen.append(trainer.callback_metrics["loss"].item())

    class Counting(Silent):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
            self.log("loss", 10.0 * batch_idx + self.global_rank, sync_dist=True, reduce_fx="max")

    seen: list[float] = []
    made, _ = trainer(log_every_n_steps=3, callbacks=[Look()])
    made.fit(Counting(), loader([torch.ones(2)] * 7))
    return [*seen, made.callback_metrics["loss"].item()]


def spread(values: torch.Tensor) -> torch.Tensor:
    """A reduction of a user's own."""
    return values.max() - values.min()


class ByFunction(Silent):
    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        for name, function in {"median": torch.median, "spread": spread}.items():
            self.log(name, value(batch, "float32"), on_step=True, on_epoch=True, reduce_fx=function, sync_dist=True)
        self.log("loss", value(batch, "float32"), on_epoch=True, sync_dist=True)


def by_function(ranks: list[int]) -> dict[str, Any]:
    """Two epochs over the batches of these ranks, with reductions of the user's."""
    made, rows = trainer(max_epochs=2)
    made.fit(ByFunction(), loader([batch for rank in ranks for batch in batches(rank)]))
    return {"callback": plain(made.callback_metrics), "rows": rows.rows}


def functions(folder: Path) -> dict[str, Any]:
    with counted() as counter:
        found = by_function([dist.get_rank()])
    return {**found, "objects": counter["all_gather_object"]}


# ---- what it costs -----------------------------------------------------------------------------------------------------

COLLECTIVES = (
    "all_gather", "all_gather_into_tensor", "all_gather_object", "all_reduce", "all_to_all", "all_to_all_single", "barrier",
    "broadcast", "broadcast_object_list", "gather", "gather_object", "monitored_barrier", "reduce", "reduce_scatter",
    "scatter", "send", "recv",
)  # fmt: skip


@contextmanager
def counted() -> Iterator[Counter[str]]:
    counter: Counter[str] = Counter()
    originals = {name: getattr(dist, name) for name in COLLECTIVES}

    def counting(name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            counter[name] += 1
            return originals[name](*args, **kwargs)

        return call

    for name in COLLECTIVES:
        setattr(dist, name, counting(name))
    try:
        yield counter
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)


class Several(Silent):
    def __init__(self, on_step: bool, on_epoch: bool, sync: bool, keys: int) -> None:
        super().__init__()
        self.on_step, self.on_epoch, self.sync, self.keys = on_step, on_epoch, sync, keys

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        for i in range(self.keys):
            self.log(
                f"key{i}", value(batch, KINDS[i % len(KINDS)]), on_step=self.on_step, on_epoch=self.on_epoch,
                sync_dist=self.sync, enable_graph=KINDS[i % len(KINDS)] == "graph",
            )  # fmt: skip


def collectives(folder: Path) -> dict[str, Any]:
    """Twenty batches, a row every five."""
    items = [torch.ones(2)] * 20
    found = {}
    for name, arguments in {
        "both": (True, True, True, 12), "step": (True, False, True, 12), "epoch": (False, True, True, 12),
        "none": (True, True, False, 12), "many": (True, True, True, 100),
    }.items():  # fmt: skip
        made, _ = trainer(log_every_n_steps=5)
        with counted() as counter:
            made.fit(Several(*arguments), loader(items))
        found[name] = dict(counter)
    return found


# ---- groups, and what only rank 0 logs -----------------------------------------------------------------------------------


def groups(folder: Path) -> dict[str, Any]:
    """A group of the first and the last rank; the others keep what they have."""
    group = dist.new_group([0, dist.get_world_size() - 1])

    class Grouped(Silent):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
            self.log(
                "ours", float(self.global_rank), on_epoch=True, sync_dist=True, sync_dist_group=group, reduce_fx="sum"
            )
            self.log("all", float(self.global_rank), on_epoch=True, sync_dist=True, reduce_fx="sum")

    made, _ = trainer()
    made.fit(Grouped(), loader([torch.ones(2)] * 2))
    return plain(made.callback_metrics)


def rank_zero_only(folder: Path) -> dict[str, Any]:
    class First(Silent):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
            if self.global_rank == 0:
                self.log("first", 7.0, on_epoch=True, sync_dist=True, rank_zero_only=True)
            self.log("own", float(self.global_rank))

    made, _ = trainer()
    made.fit(First(), loader([torch.ones(2)] * 2))
    return plain(made.callback_metrics)


# ---- metric objects ----------------------------------------------------------------------------------------------------


class Objects(Silent):
    def __init__(self) -> None:
        super().__init__()
        self.mean = torchmetrics.MeanMetric()
        self.mean.persistent(True)
        self.pair = torchmetrics.MetricCollection({"top": torchmetrics.MaxMetric(), "sum": torchmetrics.SumMetric()})
        self.cat = torchmetrics.CatMetric()

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.mean(batch + self.current_epoch)
        self.pair.update(batch + self.current_epoch)
        self.log("mean", self.mean, on_step=True, on_epoch=True, sync_dist=True)
        self.log_dict(self.pair, on_step=False, on_epoch=True)
        self.log("plain", batch.mean(), on_step=False, on_epoch=True, sync_dist=True)

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.cat.update(batch)

    def on_validation_epoch_end(self) -> None:
        self.log("count", float(self.cat.compute().numel()))
        self.cat.reset()


def objects(ranks: list[int], folder: Path) -> dict[str, Any]:
    items = [batch for rank in ranks for batch in batches(rank)]
    made, rows = trainer(max_epochs=2, log_every_n_steps=100)
    module = Objects()
    made.fit(module, loader(items), loader(items))
    state = {name: tensor.tolist() for name, tensor in module.state_dict().items() if name.startswith("mean.")}
    path = folder / f"objects-{ranks[0]}.ckpt"
    made.save_checkpoint(path)
    return {
        "callback": plain(made.callback_metrics), "rows": rows.rows, "state": state,
        "saved": path.exists() and [name for name in torch.load(path)["state_dict"] if name.startswith("mean.")],
    }  # fmt: skip


def metric_objects(folder: Path) -> dict[str, Any]:
    return objects([dist.get_rank()], folder)


# ---- what goes wrong -----------------------------------------------------------------------------------------------------


class Differing(Silent):
    def __init__(self, names: list[str], end: list[str], **options: Any) -> None:
        super().__init__()
        self.names, self.end, self.options = names, end, options

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        for name in self.names:
            self.log(name, 1.0, sync_dist=True, **self.options)

    def on_train_epoch_end(self) -> None:
        for name in self.end:
            self.log(name, 1.0, sync_dist=True)


def _fit_differing(names: list[str], end: list[str], **options: Any) -> tuple[str | None, float]:
    return _fit(Differing(names, end, **options))


def _fit(module: Silent) -> tuple[str | None, float]:
    logging_sync.PATIENCE = 0.5
    made, _ = trainer(log_every_n_steps=1)
    start = time.monotonic()
    message = None
    try:
        made.fit(module, loader([torch.ones(2)] * 2))
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    dist.monitored_barrier()
    return message, time.monotonic() - start


def other_keys(folder: Path) -> Any:
    return _fit_differing(["loss", "a"] if dist.get_rank() == 0 else ["loss", "b"], [])


def other_reduction(folder: Path) -> Any:
    return _fit_differing(["loss"], [], reduce_fx="sum" if dist.get_rank() == 0 else "max")


def key_of_one_rank(folder: Path) -> Any:
    return _fit_differing(["loss"], ["extra"] if dist.get_rank() == 1 else [])


def no_keys_on_one_rank(folder: Path) -> Any:
    return _fit_differing(["loss"] if dist.get_rank() == 0 else [], [])


def no_keys_in_epochs(folder: Path) -> Any:
    return _fit_differing(["loss"] if dist.get_rank() == 0 else [], [], on_step=False, on_epoch=True)


def exception_on_one_rank(folder: Path) -> Any:
    class Fails(Differing):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
            if batch_idx == 1 and self.global_rank == 1:
                raise ValueError("broken batch")
            super().training_step(batch, batch_idx)

    return _fit(Fails(["loss"], []))


def after_an_error(folder: Path) -> Any:
    """A run that goes well, in processes in which one gave up waiting before."""
    first = key_of_one_rank(folder)
    made, rows = trainer()
    made.fit(Differing(["loss"], ["extra"]), loader([torch.ones(2)] * 3))
    return first[0], plain(made.callback_metrics)
