"""Type aliases for the signatures of hooks, and the description of a learning rate scheduler.

They are evaluated at import, also by tools that look at the signatures, so they keep to `Union` and `Optional`.
"""
# ruff: noqa: UP007, UP045 (values that scripts import and inspect)

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Protocol, TypedDict, TypeVar, Union, runtime_checkable

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from typing_extensions import NotRequired, Required

if TYPE_CHECKING:
    from torchmetrics import Metric

# importing torchmetrics costs more than the rest of the package together, hence the name in quotes
_NUMBER = Union[int, float]
_METRIC = Union["Metric", Tensor, int, float]
STEP_OUTPUT = Optional[Union[Tensor, Mapping[str, Any]]]
_EVALUATE_OUTPUT = list[Mapping[str, float]]
_PREDICT_OUTPUT = Union[list[Any], list[list[Any]]]
TRAIN_DATALOADERS = Any
EVAL_DATALOADERS = Any

_PATH = Union[str, Path]
_DEVICE = Union[torch.device, str, int]
_MAP_LOCATION_TYPE = Optional[
    Union[
        torch.device,
        str,
        int,
        Callable[[torch.UntypedStorage, str], Optional[torch.UntypedStorage]],
        dict[Union[torch.device, str, int], Union[torch.device, str, int]],
    ]
]
_PARAMETERS = Iterator[torch.nn.Parameter]

LRSchedulerTypeTuple = (LRScheduler, ReduceLROnPlateau)
LRSchedulerTypeUnion = Union[LRScheduler, ReduceLROnPlateau]
LRSchedulerPLType = LRSchedulerTypeUnion
LRSchedulerType = Union[type[LRScheduler], type[ReduceLROnPlateau]]


@dataclass
class LRSchedulerConfig:
    """A learning rate scheduler and when it steps.

    Attributes:
        scheduler: the scheduler.
        name: name for the learning rate monitor; None: made up from the optimizer's class.
        interval: ``"epoch"`` or ``"step"``.
        frequency: step after every this many intervals.
        reduce_on_plateau: the scheduler's step takes the monitored value.
        monitor: name of the value that a plateau scheduler looks at.
        strict: a missing monitored value is an error, otherwise a warning.
    """

    scheduler: LRSchedulerTypeUnion
    name: str | None = None
    interval: str = "epoch"
    frequency: int = 1
    reduce_on_plateau: bool = False
    monitor: str | None = None
    strict: bool = True


class LRSchedulerConfigType(TypedDict, total=False):
    """The same as a dictionary, as ``configure_optimizers`` may return it."""

    scheduler: Required[LRSchedulerTypeUnion]
    interval: str
    frequency: int
    monitor: Optional[str]
    strict: bool
    reduce_on_plateau: bool
    name: Optional[str]


class OptimizerConfig(TypedDict):
    """What ``configure_optimizers`` may return: a dictionary with an optimizer."""

    optimizer: Optimizer


class OptimizerLRSchedulerConfig(TypedDict):
    """What ``configure_optimizers`` may return: a dictionary with an optimizer and its scheduler."""

    optimizer: Optimizer
    lr_scheduler: Union[LRSchedulerTypeUnion, LRSchedulerConfigType]
    monitor: NotRequired[str]


_Schedulers = Sequence[Union[LRSchedulerTypeUnion, LRSchedulerConfig]]
_ManyDicts = Union[Sequence[OptimizerConfig], Sequence[OptimizerLRSchedulerConfig]]
_Plain = Union[Optimizer, Sequence[Optimizer], tuple[Sequence[Optimizer], _Schedulers]]
OptimizerLRScheduler = Union[_Plain, OptimizerConfig, OptimizerLRSchedulerConfig, _ManyDicts, None]
"""Every form in which ``configure_optimizers`` may answer."""

_Key = TypeVar("_Key")


@runtime_checkable
class _Stateful(Protocol[_Key]):
    """Anything with ``state_dict`` and ``load_state_dict``."""

    def state_dict(self) -> dict[_Key, Any]: ...

    def load_state_dict(self, state_dict: dict[_Key, Any]) -> None: ...


@runtime_checkable
class Steppable(Protocol):
    """Anything with an optimizer's ``step``."""

    def step(self, closure: Callable[[], float] | None = ...) -> float | None:
        """One step; ``closure`` computes the loss anew."""


@runtime_checkable
class Optimizable(Steppable, Protocol):
    """Anything that has an optimizer's attributes, whatever its class."""

    param_groups: list[dict[Any, Any]]
    defaults: dict[Any, Any]
    state: defaultdict[Tensor, Any]

    def state_dict(self) -> dict[str, dict[Any, Any]]:
        """What `load_state_dict` takes."""

    def load_state_dict(self, state_dict: dict[str, dict[Any, Any]]) -> None:
        """Take up what `state_dict` gave."""


@runtime_checkable
class DistributedDataParallel(Protocol):
    """A module wrapped for several ranks: gradients stay local inside ``no_sync``."""

    def no_sync(self) -> AbstractContextManager[None]:
        """Gradients within are those of this process alone."""


class _SizedIterable(Protocol):
    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...
