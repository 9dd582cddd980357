"""``Trainer(nan_policy=...)``: what happens where a NaN or an infinity is logged.

Numbers and tensors on the CPU are known when they are logged. Values on another device are folded there, one number per
name that is NaN once something was not finite, and come over together when the row of an interval is sent: no step waits
for the device. The loss that a step returns is looked at too where it is on the CPU.

With "ignore" nothing of this file takes part in a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from fulmen import errors
from fulmen.trainer.device_values import Copy
from fulmen.trainer.logging import Ledger
from fulmen.trainer.logging_entry import NumberEntry
from fulmen.utilities.rank_zero import rank_zero_warn

if TYPE_CHECKING:
    from fulmen.trainer.trainer import Trainer


def make_ledger(trainer: Trainer, policy: str) -> Ledger:
    """The ledger for a policy: the plain one where nobody looks."""
    return Ledger(trainer) if policy == "ignore" else WatchingLedger(trainer, policy)


def watcher(trainer: Trainer) -> WatchingLedger | None:
    """The trainer's ledger if it looks for what is not finite."""
    ledger = trainer._ledger
    return ledger if isinstance(ledger, WatchingLedger) else None


class WatchingLedger(Ledger):
    """A ledger that acts on values that are not finite.

    Args:
        trainer: whose values.
        policy: "warn", "raise" or "skip_step".

    Attributes:
        dropping: whether the accumulation window in hand is not to be taken by the optimizer.
        dropped: windows of this run that were not.
    """

    def __init__(self, trainer: Trainer, policy: str) -> None:
        super().__init__(trainer)
        self._policy = policy
        self._on_device: dict[str, Tensor] = {}
        self._coming: Copy | None = None
        self._warned: set[str] = set()
        self._noted: tuple[str, float] | None = None
        self.dropping = False
        self.dropped = 0

    @override
    def begin_run(self) -> None:
        super().begin_run()
        self._on_device.clear()
        self._coming = None
        self._warned.clear()
        self._noted, self.dropping, self.dropped = None, False, 0

    # ---- noticing ----------------------------------------------------------------------------------------------------

    def log(self, module: Any, name: str, value: Any, **options: Any) -> None:
        """As the plain ledger; what the store does not see (values on devices, metric objects) is looked at here."""
        super().log(module, name, value, **options)
        # a metric object keeps the value of the batch in hand here
        tensor = value if isinstance(value, Tensor) else getattr(value, "_forward_cache", None)
        if not isinstance(tensor, Tensor) or tensor.numel() != 1:
            return
        tensor = tensor.detach().reshape(())
        if tensor.device.type == "cpu":
            if not math.isfinite(number := tensor.item()):
                self._noted = (name, number)
            return
        # 0 for what is finite, NaN for all else, and NaN stays
        fold = tensor.float() * 0
        self._on_device[name] = fold if name not in self._on_device else self._on_device[name] + fold

    def found(self) -> tuple[str, float] | None:
        """Name and value of something logged since the last call that is not finite, as far as the CPU knows."""
        slot = self._store.take_nonfinite()
        noted, self._noted = self._noted, None
        if slot is None:
            return noted
        for entries in (self._training, self._evaluation):
            for entry in entries.values():
                if isinstance(entry, NumberEntry) and entry.slot == slot:
                    last = entry.last()
                    return entry.base_name, math.nan if last is None else last
        return noted

    def _found_on_device(self, wait: bool = True) -> list[str]:
        """Names of values on a device that were not finite: all since the last look, or those whose copy has come by now."""
        found: list[str] = []
        if self._coming is not None and (wait or self._coming.arrived()):
            found += _names_of_nan(self._coming)
            self._coming = None
        if self._coming is None and self._on_device:
            folded, self._on_device = self._on_device, {}
            self._coming = Copy(folded)
            if wait:
                found += _names_of_nan(self._coming)
                self._coming = None
        return found

    # ---- acting ------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Warns about, or raises, what was found and came too late to skip a step."""
        found = self.found()
        if found is not None:
            self._act(f"self.log({found[0]!r})", found[1])

    def _act(self, place: str, value: Any) -> None:
        schedule = self.trainer._schedule
        where = f"in epoch {schedule.current_epoch}, batch {schedule.batch_idx}, at global step {schedule.global_step}"
        received = errors.Words(f"{value} {where}")
        if self._policy == "raise":
            raise errors.value_error(
                place,
                'a finite number, as asked for by Trainer(nan_policy="raise")',
                received,
                "Lower the learning rate, clip gradients, or look for the operation with Trainer(detect_anomaly=True)",
            )
        if place not in self._warned:
            self._warned.add(place)
            rank_zero_warn(f"{place}: {received!r}. It is said once for each name (Trainer(nan_policy)).")

    @override
    def send_step_rows(self) -> None:
        super().send_step_rows()
        self._look_back(wait=False)

    @override
    def send_epoch_rows(self) -> None:
        super().send_epoch_rows()
        self._look_back(wait=True)

    def _look_back(self, wait: bool) -> None:
        self.check()
        when = "within this log interval" if wait else "within this log interval or the one before"
        for name in self._found_on_device(wait):
            self._act(f"self.log({name!r})", f"NaN or an infinity, {when},")

    # ---- within a step -----------------------------------------------------------------------------------------------

    def watched(self, training_step: Callable[..., Any]) -> Callable[..., Any]:
        """A step of the user's that is looked at when it is done, before anything follows from it."""
        skips = self._policy == "skip_step"

        def step(*args: Any, **kwargs: Any) -> Any:
            # what hooks logged since the step before
            self.check()
            output = training_step(*args, **kwargs)
            found = self.found()
            place, value = (f"self.log({found[0]!r})", found[1]) if found else ("the loss", _known_loss(output))
            if not math.isfinite(value):
                if skips:
                    self._drop(place, value)
                else:
                    self._act(place, value)
            # a dict without a loss: the batch is skipped as if the step had returned None, and without its warning
            return {"loss": None} if self.dropping else output

        return step

    def before_optimizer(self) -> None:
        """Hooks have seen the gradients; the optimizer is about to step."""
        found = self.found()
        if found is None:
            return
        place = f"self.log({found[0]!r})"
        if self._policy == "skip_step":
            self._drop(place, found[1])
        else:
            self._act(place, found[1])

    def _drop(self, place: str, value: float) -> None:
        for optimizer in self.trainer.optimizers:
            # None and not 0: an optimizer with momentum or weight decay moves weights whose gradients are 0
            optimizer.zero_grad(set_to_none=True)
        if self.dropping:
            return
        self.dropping = True
        self.dropped += 1
        if self.dropped & (self.dropped - 1) == 0:
            # the 1st, 2nd, 4th, 8th ...
            rank_zero_warn(
                f'Trainer(nan_policy="skip_step"): {place} was {value} in batch {self.trainer._schedule.batch_idx} of '
                f"epoch {self.trainer._schedule.current_epoch}, and the optimizer leaves it out. Steps left out so far: "
                f"{self.dropped}."
            )


class WatchedOptimizer:
    """Stands before an optimizer that is about to step, and looks once more at what was logged.

    Args:
        ledger: who looks.
        optimizer: one that updates from the gradients as they are.
    """

    def __init__(self, ledger: WatchingLedger, optimizer: Optimizer) -> None:
        self._ledger = ledger
        self._optimizer = optimizer

    def step(self) -> None:
        """The optimizer's step, if it is to be taken."""
        self._ledger.before_optimizer()
        if not self._ledger.dropping:
            self._optimizer.step()


def _known_loss(output: Any) -> float:
    """The loss where it can be read without waiting; 0 where it cannot."""
    loss = output.get("loss") if isinstance(output, Mapping) else output
    if isinstance(loss, Tensor) and loss.device.type == "cpu" and loss.numel() == 1:
        return float(loss.detach())
    return 0.0


def watched_step(trainer: Trainer, training_step: Callable[..., Any]) -> Callable[..., Any]:
    """The user's step as the policy wants it: itself with "ignore"."""
    ledger = watcher(trainer)
    return training_step if ledger is None else ledger.watched(training_step)


def watched_optimizer(trainer: Trainer, optimizer: Optimizer) -> Optimizer | WatchedOptimizer:
    """What steps in the optimizer's place: itself with "ignore"."""
    ledger = watcher(trainer)
    return optimizer if ledger is None else WatchedOptimizer(ledger, optimizer)


def watched_window(
    trainer: Trainer, step: Callable[[Any, int, int], Any], opens: int
) -> Callable[[Any, int, int], Any]:
    """A whole step that begins accumulation windows anew: what was dropped in one is over in the next.

    Args:
        trainer: whose step.
        step: takes batch, index and flags.
        opens: the flag of a window's first batch.
    """
    ledger = watcher(trainer)
    if ledger is None or trainer._config.nan_policy != "skip_step":
        return step

    def windowed(batch: Any, batch_idx: int, flags: int) -> Any:
        if flags & opens:
            ledger.dropping = False
        return step(batch, batch_idx, flags)

    return windowed


def check_policy(trainer: Trainer) -> None:
    """Can the policy be followed in the fit that is about to start?

    Raises:
        MisconfigurationException: "skip_step" where nobody knows in time, or where others decide about the step.
    """
    if trainer._config.nan_policy != "skip_step":
        return
    from fulmen.trainer.legacy_step import takes_optimizer_idx

    module, device = trainer.lightning_module, trainer.strategy.root_device
    argument, cure = 'Trainer(nan_policy="skip_step")', 'Use nan_policy="warn" or "raise"'
    if device.type != "cpu":
        raise errors.misconfiguration(
            argument,
            "a run on the CPU: whether a value is finite is not known before the step without waiting for the device",
            errors.Words(f"a run on {device}"),
            f'{cure}; Trainer(precision="16-mixed") leaves out steps with infinite gradients by itself, on the device',
        )
    if trainer.world_size > 1:
        raise errors.misconfiguration(
            argument,
            "a run of one process: if one left a step out, the others would wait for its gradients",
            errors.Words(f"{trainer.world_size} processes"),
            cure,
        )
    if not module.automatic_optimization or takes_optimizer_idx(module):
        raise errors.misconfiguration(
            argument,
            "automatic optimization with one optimizer: here the module itself decides about its steps",
            errors.Words(f"{type(module).__name__}, which steps by itself or with several optimizers"),
            f"{cure}, or look at the loss in `training_step` before you step",
        )
    if any(isinstance(optimizer, torch.optim.LBFGS) for optimizer in trainer.optimizers):
        raise errors.misconfiguration(
            argument,
            "an optimizer that is done with one forward pass a step",
            errors.Words("LBFGS, which needs the loss of each"),
            cure,
        )


def _names_of_nan(copy: Copy) -> list[str]:
    return [name for name, value in copy.numbers().items() if math.isnan(value)]
