"""Samplers that the trainer puts into loaders: one part of the data for each rank, and a record of what was drawn."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from fulmen.trainer.states import RunningStage, TrainerFn
from fulmen.utilities.data import has_iterable_dataset
from fulmen.utilities.rank_zero import rank_zero_warn
from fulmen.utilities.warnings import PossibleUserWarning

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer


class _Drawn(Dataset[Any]):
    """What a sampler draws in one epoch, as a data set.

    Args:
        sampler: the user's sampler; it needs a finite length, as all ranks must agree on their parts.
    """

    def __init__(self, sampler: Any) -> None:
        length = len(sampler) if isinstance(sampler, Sized) else float("inf")
        if length == float("inf"):
            raise TypeError(
                f"The sampler `{type(sampler).__name__}` does not provide a finite `__len__`, so its samples cannot be"
                " divided among the ranks. Give it one, or set `Trainer(use_distributed_sampler=False)` and let the"
                " sampler care for its rank's part by itself."
            )
        self.sampler = sampler
        self._indices: list[Any] = []

    def draw(self) -> None:
        """Draw anew, for a new epoch."""
        self._indices = list(self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)

    def __getitem__(self, position: int) -> Any:
        return self._indices[position]


class DistributedSamplerWrapper(DistributedSampler[Any]):
    """Divides what a sampler draws among the ranks, as `torch.utils.data.DistributedSampler` divides a data set.

    All ranks have to draw the same: seed the sampler's generator by the epoch that ``set_epoch`` tells it.

    Args:
        sampler: the user's sampler, with a finite length.
        args: further arguments of `DistributedSampler`.
        kwargs: the same.

    Raises:
        TypeError: the sampler has no finite length.
    """

    dataset: _Drawn

    def __init__(self, sampler: Sampler[Any] | Iterable[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(_Drawn(sampler), *args, **kwargs)

    def __iter__(self) -> Iterator[Any]:
        self.dataset.draw()
        return map(self.dataset.__getitem__, super().__iter__())

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch to this sampler and to the user's one."""
        super().set_epoch(epoch)
        forward = getattr(self.dataset.sampler, "set_epoch", None)
        if callable(forward):
            forward(epoch)


class UnrepeatedDistributedSampler(DistributedSampler[Any]):
    """Divides a data set among the ranks without repeating samples: ranks may get one sample more than others.

    For prediction only: steps with collectives would wait for the ranks that have one batch less.

    Args:
        args: arguments of `torch.utils.data.DistributedSampler`; ``drop_last`` means nothing here.
        kwargs: the same.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.total_size = len(self.dataset)  # type: ignore[arg-type]  # has a length, or was refused before
        self.num_samples = len(range(self.rank, self.total_size, self.num_replicas))
        if self.total_size and not self.num_samples:
            raise ValueError(
                f"rank {self.rank} has nothing to predict: {self.total_size} samples are less than {self.num_replicas}"
                " ranks. Use fewer devices."
            )

    def __iter__(self) -> Iterator[Any]:
        if not self.shuffle:
            return iter(range(self.rank, self.total_size, self.num_replicas))
        import torch

        generator = torch.Generator()
        generator.manual_seed(self.epoch)
        order = torch.randperm(self.total_size, generator=generator).tolist()
        return iter(order[self.rank :: self.num_replicas])


class UnrepeatedDistributedSamplerWrapper(UnrepeatedDistributedSampler):
    """`UnrepeatedDistributedSampler` over what a sampler draws."""

    dataset: _Drawn

    def __init__(self, sampler: Sampler[Any] | Iterable[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(_Drawn(sampler), *args, **kwargs)

    def __iter__(self) -> Iterator[Any]:
        self.dataset.draw()
        return map(self.dataset.__getitem__, super().__iter__())


class BatchIndexRecorder:
    """A batch sampler that remembers the indices of the batches it gave in this epoch.

    Everything else is asked of the batch sampler inside, whose attributes show through.

    Args:
        batch_sampler: the batch sampler.

    Attributes:
        seen_batch_indices: one list of indices per batch. Workers fetch ahead, so it may hold more batches than the
            loop has had.
    """

    def __init__(self, batch_sampler: Any) -> None:
        self._batch_sampler = batch_sampler
        self.seen_batch_indices: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        self.seen_batch_indices = []
        for indices in self._batch_sampler:
            self.seen_batch_indices.append(indices)
            yield indices

    def __len__(self) -> int:
        return len(self._batch_sampler)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_batch_sampler":
            # copying and unpickling look for special methods before there is anything inside
            raise AttributeError(name)
        return getattr(self._batch_sampler, name)


def needs_distributed_sampler(trainer: Trainer, loader: DataLoader[Any]) -> bool:
    """Whether each rank must get its own part of a loader's data, and nobody sees to that yet."""
    return bool(
        trainer._config.use_distributed_sampler
        and trainer._devices.is_distributed
        and not isinstance(loader.sampler, DistributedSampler)
        and not has_iterable_dataset(loader)
    )


def distributed_sampler(
    trainer: Trainer, loader: DataLoader[Any], shuffle: bool, stage: RunningStage
) -> DistributedSampler[Any]:
    """The sampler that gives this rank its part.

    Args:
        trainer: knows the ranks.
        loader: whose sampler is replaced: the default ones by torch's `DistributedSampler`, others are wrapped.
        shuffle: whether the samples are mixed; never with ``overfit_batches``.
        stage: in prediction no sample is repeated; elsewhere the last ones repeat the first, so that all ranks have
            the same number.
    """
    arguments: dict[str, Any] = dict(trainer.distributed_sampler_kwargs or {})
    arguments["shuffle"] = shuffle and not trainer.overfit_batches
    arguments.setdefault("seed", int(os.environ.get("PL_GLOBAL_SEED", 0)))
    if stage is RunningStage.PREDICTING:
        return UnrepeatedDistributedSamplerWrapper(loader.sampler, **arguments)
    sampler: DistributedSampler[Any]
    if isinstance(loader.sampler, RandomSampler | SequentialSampler):
        sampler = DistributedSampler(loader.dataset, **arguments)
    else:
        sampler = DistributedSamplerWrapper(loader.sampler, **arguments)
    fn = trainer.state.fn
    if fn in (TrainerFn.VALIDATING, TrainerFn.TESTING) and sampler.num_replicas > 1:
        assert fn is not None
        rank_zero_warn(
            f"Using `DistributedSampler` with the dataloaders. During `trainer.{fn.value}()`, it is recommended to use"
            " `Trainer(devices=1, num_nodes=1)` to ensure each sample/batch gets evaluated exactly once: with several"
            " devices some samples are repeated, so that all ranks get the same number.",
            category=PossibleUserWarning,
        )
    return sampler
