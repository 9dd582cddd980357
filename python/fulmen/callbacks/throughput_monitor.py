"""`ThroughputMonitor`: logs how many batches, samples and items a second the run gets through."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from fulmen.callbacks.callback import Callback
from fulmen.utilities.rank_zero import rank_zero_warn
from fulmen.utilities.throughput import Throughput, compute_dtype, get_available_flops

if TYPE_CHECKING:
    import fulmen as L
    from fulmen.trainer.states import RunningStage

__all__ = ["ThroughputMonitor"]


class ThroughputMonitor(Callback):
    """Logs what `fulmen.utilities.throughput.Throughput` computes, as "train/time", "validate/device/samples_per_sec", …

    Rows are sent every ``log_every_n_steps``: of optimizer steps in training, of batches elsewhere. A validation within a
    fit does not count as training time. If the module has an attribute ``flops_per_batch`` (see
    `fulmen.utilities.measure_flops`), operations per second are logged too.

    Args:
        batch_size_fn: gives the number of samples of a batch.
        length_fn: gives the number of items of a batch, such as its tokens.
        kwargs: ``window_size`` and ``separator`` of `Throughput`.
    """

    def __init__(
        self, batch_size_fn: Callable[[Any], int], length_fn: Callable[[Any], int] | None = None, **kwargs: Any
    ) -> None:
        super().__init__()
        self.batch_size_fn = batch_size_fn
        self.length_fn = length_fn
        self.kwargs = kwargs
        self.available_flops: int | None = None
        self._throughputs: dict[RunningStage, Throughput] = {}
        self._t0s: dict[RunningStage, float] = {}
        self._samples: dict[RunningStage, int] = {}
        self._lengths: dict[RunningStage, int] = {}
        self._batches: dict[RunningStage, int] = {}
        self._warned = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Makes the counters of the stages that this run has."""
        from fulmen.trainer.states import RunningStage

        dtype = compute_dtype(trainer.precision_plugin)
        self.available_flops = get_available_flops(trainer.strategy.root_device, dtype)
        assert trainer.state.stage is not None
        stages = [trainer.state.stage]
        if stage == "fit":
            stages = [RunningStage.TRAINING] + ([RunningStage.VALIDATING] if trainer.enable_validation else [])
        for each in stages:
            self._throughputs[each] = Throughput(
                available_flops=self.available_flops, world_size=trainer.world_size, **self.kwargs
            )
            for totals in (self._samples, self._lengths, self._batches):
                totals.setdefault(each, 0)

    # ---- the work ----------------------------------------------------------------------------------------------------

    def _start(self, trainer: L.Trainer) -> None:
        stage = trainer.state.stage
        assert stage is not None
        self._throughputs[stage].reset()
        if trainer.state.fn == "fit":
            # the totals of repeated evaluations go on, as their x axis does
            self._samples[stage] = self._lengths[stage] = self._batches[stage] = 0
        self._t0s[stage] = time.perf_counter()

    @torch.inference_mode()
    def _update(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any) -> None:
        stage = trainer.state.stage
        assert stage is not None
        device = trainer.strategy.root_device
        if device.type == "cuda":
            # without it the clock would only see how fast work is handed to the device
            torch.cuda.synchronize(device)
        elapsed = time.perf_counter() - self._t0s[stage]
        self._samples[stage] += self.batch_size_fn(batch)
        self._batches[stage] += 1
        if self.length_fn is not None:
            self._lengths[stage] += self.length_fn(batch)
        flops = getattr(pl_module, "flops_per_batch", None)
        if flops is None and not self._warned:
            self._warned = True
            rank_zero_warn(
                "When using the `ThroughputMonitor`, you need to define a `flops_per_batch` attribute or property in "
                f"{type(pl_module).__name__} to compute the FLOPs."
            )
        self._throughputs[stage].update(
            time=elapsed,
            batches=self._batches[stage],
            samples=self._samples[stage],
            lengths=None if self.length_fn is None else self._lengths[stage],
            flops=flops,
        )

    def _compute(self, trainer: L.Trainer, step: int | None = None) -> None:
        stage = trainer.state.stage
        assert stage is not None
        throughput = self._throughputs[stage]
        prefix = f"{stage.value}{throughput.separator}"
        trainer._logger_connector.log_metrics({prefix + k: v for k, v in throughput.compute().items()}, step=step)

    def _update_evaluation(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any) -> None:
        loops: dict[str, Any] = {
            "fit": trainer.fit_loop.epoch_loop.val_loop,
            "validate": trainer.validate_loop,
            "test": trainer.test_loop,
            "predict": trainer.predict_loop,
        }
        assert trainer.state.fn is not None
        self._update(trainer, pl_module, batch)
        step = loops[trainer.state.fn.value].batch_progress.total.ready
        if trainer.log_every_n_steps and step % trainer.log_every_n_steps == 0:
            self._compute(trainer, step)

    # ---- hooks -------------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Starts the training's clock."""
        self._start(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Counts a batch, and logs when the optimizer has stepped."""
        self._update(trainer, pl_module, batch)
        if trainer._logger_connector.should_update_logs and not trainer.fit_loop._should_accumulate():
            self._compute(trainer)

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Starts the validation's clock."""
        if not trainer.sanity_checking:
            self._start(trainer)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        """Counts a batch, and logs."""
        if not trainer.sanity_checking:
            self._update_evaluation(trainer, pl_module, batch)

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        """The training's clock leaves out everything since the last training batch."""
        from fulmen.trainer.states import RunningStage

        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        train, val = RunningStage.TRAINING, RunningStage.VALIDATING
        if not self._throughputs[train]._time or not self._throughputs[val]._time:
            return
        # when the last batch of each ended, by the clock itself
        train_end = self._t0s[train] + self._throughputs[train]._time[-1]
        val_end = self._t0s[val] + self._throughputs[val]._time[-1]
        self._t0s[train] += val_end - train_end

    def on_test_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Starts the test's clock."""
        self._start(trainer)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        """Counts a batch, and logs."""
        self._update_evaluation(trainer, pl_module, batch)

    def on_predict_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Starts the prediction's clock."""
        self._start(trainer)

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        """Counts a batch, and logs."""
        self._update_evaluation(trainer, pl_module, batch)
