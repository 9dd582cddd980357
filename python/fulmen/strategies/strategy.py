"""Base of the strategies: where the module runs, and everything that depends on that.

A strategy holds the module, its optimizers and schedulers, and the three parts that it is put together from: the
accelerator (the hardware), the precision (the number types) and the checkpoint IO (the files). What happens in a batch
is passed straight on to the module and the precision; the training loop leaves out these detours as long as no subclass
overrides one of the methods in question (`training_step`, `backward`, `optimizer_step` and what they call).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from fulmen.precision.precision import Precision
from fulmen.strategies.hooks import StrategyHooks
from fulmen.strategies.moving import EmptyInit, leave_map, move_optimizers, transfer_batch

if TYPE_CHECKING:
    from torch.distributed import ReduceOp

    import fulmen as L
    from fulmen.accelerators.accelerator import Accelerator
    from fulmen.core.optimizer import LightningOptimizer
    from fulmen.plugins.io.checkpoint_io import CheckpointIO
    from fulmen.strategies.registry import _StrategyRegistry
    from fulmen.utilities.types import STEP_OUTPUT, LRSchedulerConfig

T = TypeVar("T")


class Strategy(StrategyHooks, ABC):
    """How a module is placed on devices, trained, saved and loaded.

    Args:
        accelerator: the hardware. None: the trainer sets it.
        checkpoint_io: reads and writes checkpoint files. None: `NativeCheckpointIO`.
        precision_plugin: the precision. None: `Precision`, 32 bit.

    Attributes:
        lr_scheduler_configs: the schedulers, in the order of ``configure_optimizers``.
    """

    def __init__(
        self,
        accelerator: Accelerator | None = None,
        checkpoint_io: CheckpointIO | None = None,
        precision_plugin: Precision | None = None,
    ) -> None:
        self._accelerator = accelerator
        self._checkpoint_io = checkpoint_io
        self._precision_plugin: Precision | None = None
        # by the setter, since subclasses check there what they can work with
        self.precision_plugin = precision_plugin
        self._lightning_module: L.LightningModule | None = None
        self._model: Module | None = None
        self._launcher: Any = None
        self._optimizers: list[Optimizer] = []
        self._lightning_optimizers: list[LightningOptimizer] = []
        self.lr_scheduler_configs: list[LRSchedulerConfig] = []

    # ---- parts -------------------------------------------------------------------------------------------------------
    @property
    def launcher(self) -> Any:
        """What starts the processes of this strategy; None: the process that is there does the work."""
        return self._launcher

    @property
    def accelerator(self) -> Accelerator | None:
        """The hardware."""
        return self._accelerator

    @accelerator.setter
    def accelerator(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator

    @property
    def checkpoint_io(self) -> CheckpointIO:
        """What reads and writes checkpoint files; created when first asked for."""
        if self._checkpoint_io is None:
            from fulmen.plugins.io.native_io import NativeCheckpointIO

            self._checkpoint_io = NativeCheckpointIO()
        return self._checkpoint_io

    @checkpoint_io.setter
    def checkpoint_io(self, io: CheckpointIO) -> None:
        self._checkpoint_io = io

    @property
    def precision_plugin(self) -> Precision:
        """The precision; created when first asked for."""
        if self._precision_plugin is None:
            self._precision_plugin = Precision()
        return self._precision_plugin

    @precision_plugin.setter
    def precision_plugin(self, precision_plugin: Precision | None) -> None:
        self._precision_plugin = precision_plugin

    @property
    def optimizers(self) -> list[Optimizer]:
        """torch's optimizers, as the user's ``configure_optimizers`` made them."""
        return self._optimizers

    @optimizers.setter
    def optimizers(self, optimizers: list[Optimizer]) -> None:
        from fulmen.core.optimizer import LightningOptimizer

        self._optimizers = optimizers
        self._lightning_optimizers = [LightningOptimizer._to_lightning_optimizer(o, self) for o in optimizers]

    @property
    def model(self) -> Module | None:
        """The module, or the wrapper around it that forward has to go through."""
        return self._model if self._model is not None else self._lightning_module

    @model.setter
    def model(self, new_model: Module | None) -> None:
        self._model = new_model

    @property
    def lightning_module(self) -> L.LightningModule | None:
        """The user's module."""
        return self._lightning_module

    # ---- set up and tear down ----------------------------------------------------------------------------------------
    def connect(self, model: L.LightningModule) -> None:
        """Takes the module; the first thing that happens in a run."""
        self._lightning_module = model
        self.model = model

    def _configure_launcher(self) -> None:
        """Sets the launcher, if processes have to be started."""

    def setup_environment(self) -> None:
        """Prepares the device, before any hook of the user runs."""
        if self.accelerator is not None:
            self.accelerator.setup_device(self.root_device)

    def setup(self, trainer: L.Trainer) -> None:
        """Converts the module, moves it to its device, and in ``fit`` creates the optimizers.

        Args:
            trainer: the trainer; ``trainer.state.fn`` says what is being set up for.
        """
        if self.accelerator is not None:
            self.accelerator.setup(trainer)
        if self.model is not None:
            self.model = self.precision_plugin.convert_module(self.model)
            self.model_to_device()
            self.model = self._setup_model(self.model)
        fits = trainer.state.fn == "fit"
        if fits:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()
        if fits:
            move_optimizers(self.optimizers, self.root_device)

    def setup_optimizers(self, trainer: L.Trainer) -> None:
        """Calls the module's ``configure_optimizers``, and keeps optimizers and schedulers."""
        from fulmen.core.configure_optimizers import configure

        if self.lightning_module is not None:
            self.optimizers, self.lr_scheduler_configs = configure(self.lightning_module)

    def setup_precision_plugin(self) -> None:
        """Lets the precision replace module, optimizers and schedulers."""
        if self.model is None:
            return
        model, optimizers, configs = self.precision_plugin.connect(
            self.model, self.optimizers, self.lr_scheduler_configs
        )
        self.model = model
        self.optimizers = optimizers
        self.lr_scheduler_configs = configs

    def _setup_model_and_optimizers(self, model: Module, optimizers: list[Optimizer]) -> tuple[Module, list[Optimizer]]:
        return self._setup_model(model), [self._setup_optimizer(optimizer) for optimizer in optimizers]

    def _setup_model(self, model: Module) -> Module:
        """Wraps the module, where forward has to go through a wrapper."""
        return model

    def _setup_optimizer(self, optimizer: Optimizer) -> Optimizer:
        """Wraps an optimizer."""
        return optimizer

    def teardown(self) -> None:
        """Brings module and optimizer state to the CPU, and ends precision, accelerator and checkpoint IO.

        The checkpoint IO comes last and also after an error of the others: it may still have files to finish.
        """
        with ExitStack() as stack:
            stack.callback(self.checkpoint_io.teardown)
            move_optimizers(self.optimizers, torch.device("cpu"))
            if self.lightning_module is not None:
                self.lightning_module.cpu()
            self.precision_plugin.teardown()
            if self.accelerator is not None:
                self.accelerator.teardown()

    def _reset_optimizers_and_schedulers(self) -> None:
        self._optimizers = []
        self._lightning_optimizers = []
        self.lr_scheduler_configs = []

    # ---- devices -----------------------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def root_device(self) -> torch.device:
        """The device of this process."""

    @abstractmethod
    def model_to_device(self) -> None:
        """Moves the module to `root_device`."""

    @property
    @abstractmethod
    def is_global_zero(self) -> bool:
        """Is this the first of all processes?"""

    def batch_to_device(self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0) -> Any:
        """Moves a batch, through ``transfer_batch_to_device`` and ``on_after_batch_transfer`` of module or data module.

        Args:
            batch: any collection of tensors.
            device: where to; None: `root_device`.
            dataloader_idx: which of several loaders the batch comes from.

        Returns:
            the batch that the step gets.
        """
        return transfer_batch(self.lightning_module, batch, device or self.root_device, dataloader_idx)

    def process_dataloader(self, dataloader: object) -> object:
        """Wraps or replaces a loader before it is iterated over."""
        return dataloader

    @contextmanager
    def tensor_init_context(self, empty_init: bool | None = None) -> Generator[None, None, None]:
        """Context in which tensors are created on the device and in the precision's type.

        Args:
            empty_init: leave out the functions of `torch.nn.init`: the weights will be loaded anyway.
        """
        with ExitStack() as stack:
            if empty_init:
                stack.enter_context(EmptyInit())
            stack.enter_context(self.root_device)
            stack.enter_context(self.precision_plugin.tensor_init_context())
            yield

    @contextmanager
    def model_sharded_context(self) -> Generator[None, None, None]:
        """Context of ``configure_model``, in which a strategy may shard layers as they are created."""
        yield

    # ---- between processes -------------------------------------------------------------------------------------------
    @abstractmethod
    def reduce(
        self, tensor: Tensor | Any, group: Any | None = None, reduce_op: ReduceOp | str | None = "mean"
    ) -> Tensor | Any:
        """One value from every process's value.

        Args:
            tensor: this process's value.
            group: process group; None: all.
            reduce_op: ``"mean"``, ``"sum"`` or an operation of torch's.
        """

    @abstractmethod
    def barrier(self, name: str | None = None) -> None:
        """Waits until all processes are here."""

    @abstractmethod
    def broadcast(self, obj: T, src: int = 0) -> T:
        """The object of rank ``src``, in every process."""

    @abstractmethod
    def all_gather(self, tensor: Tensor, group: Any | None = None, sync_grads: bool = False) -> Tensor:
        """The tensors of all processes, stacked along a new first dimension.

        Args:
            tensor: shape (*), the same in every process.
            group: process group; None: all.
            sync_grads: let gradients flow back to the processes.
        """

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        """One decision from every process's: true if all (or, with ``all=False``, any) say so."""
        return decision

    # ---- a batch -----------------------------------------------------------------------------------------------------
    def training_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """The module's ``training_step`` in the precision's context."""
        with self.precision_plugin.train_step_context():
            output: STEP_OUTPUT = self._step("training_step", *args, **kwargs)
        return output

    def validation_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """The module's ``validation_step`` in the precision's context."""
        with self.precision_plugin.val_step_context():
            output: STEP_OUTPUT = self._step("validation_step", *args, **kwargs)
        return output

    def test_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """The module's ``test_step`` in the precision's context."""
        with self.precision_plugin.test_step_context():
            output: STEP_OUTPUT = self._step("test_step", *args, **kwargs)
        return output

    def predict_step(self, *args: Any, **kwargs: Any) -> Any:
        """The module's ``predict_step`` in the precision's context."""
        with self.precision_plugin.predict_step_context():
            return self._step("predict_step", *args, **kwargs)

    def _step(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.lightning_module, name)(*args, **kwargs)

    def backward(self, closure_loss: Tensor, optimizer: Optimizer | None, *args: Any, **kwargs: Any) -> Tensor:
        """Gradients of the loss, with the hooks before and after.

        Args:
            closure_loss: the loss, divided by the size of the accumulation window.
            optimizer: the optimizer that will step, if there is just one.
            *args: passed on to the module's ``backward``.
            **kwargs: passed on likewise.

        Returns:
            the loss as the precision left it.
        """
        precision: Any = self.precision_plugin
        module = self.lightning_module
        assert module is not None, "a strategy goes backward only after connect"
        self.pre_backward(closure_loss)
        closure_loss = precision.pre_backward(closure_loss, module)
        precision.backward(closure_loss, module, optimizer, *args, **kwargs)
        closure_loss = precision.post_backward(closure_loss, module)
        self.post_backward(closure_loss)
        return closure_loss

    def optimizer_step(
        self,
        optimizer: Optimizer,
        closure: Callable[[], Any],
        model: L.LightningModule | Module | None = None,
        **kwargs: Any,
    ) -> Any:
        """Lets an optimizer step.

        Args:
            optimizer: torch's optimizer.
            closure: runs forward and backward.
            model: the module; None: the connected one.
            **kwargs: passed on to ``optimizer.step``.

        Returns:
            what ``optimizer.step`` returned.
        """
        module: Any = model if model is not None else self.lightning_module
        precision: Any = self.precision_plugin
        return precision.optimizer_step(optimizer, model=module, closure=closure, **kwargs)

    # ---- checkpoints -------------------------------------------------------------------------------------------------
    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """Must the module's weights be loaded after `setup`, since it is put together there?"""
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Does the trainer restore the optimizers (or the strategy, by itself)?"""
        return True

    @property
    def handles_gradient_accumulation(self) -> bool:
        """Does the strategy accumulate gradients by itself, so that the trainer must not?"""
        return False

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The module's weights and buffers as they go into a checkpoint."""
        assert self.lightning_module is not None, "there is nothing to save before connect"
        return self.lightning_module.state_dict()

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Loads ``checkpoint["state_dict"]`` into the module.

        Args:
            checkpoint: a checkpoint's dictionary.
            strict: missing and unexpected names are errors.
        """
        assert self.lightning_module is not None, "there is nothing to load into before connect"
        self.lightning_module.load_state_dict(checkpoint["state_dict"], strict=strict)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """An optimizer's state as it goes into a checkpoint."""
        optimizer = getattr(optimizer, "_optimizer", optimizer)
        # ZeroRedundancyOptimizer and its like collect their shards on one process first
        consolidate = getattr(optimizer, "consolidate_state_dict", None)
        if consolidate is not None:
            consolidate()
            return optimizer.state_dict() if self.is_global_zero else {}
        return optimizer.state_dict()

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Loads ``checkpoint["optimizer_states"]`` into the optimizers, one after the other."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=False):
            optimizer.load_state_dict(state)
            move_optimizers([optimizer], self.root_device)
            leave_map(optimizer)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any | None = None
    ) -> None:
        """Writes a checkpoint, on the first process.

        Args:
            checkpoint: the dictionary.
            filepath: the file's final name, or a URL.
            storage_options: passed on to the checkpoint IO.
        """
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(checkpoint, filepath, storage_options=storage_options)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint.

        Args:
            checkpoint_path: file or URL.
            weights_only: True: tensors and plain data only; False: any pickled object; None: as torch's default.
        """
        torch.cuda.empty_cache()
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def remove_checkpoint(self, filepath: str | Path) -> None:
        """Deletes a checkpoint, on the first process."""
        if self.is_global_zero:
            self.checkpoint_io.remove_checkpoint(filepath)

    # ---- classes -----------------------------------------------------------------------------------------------------
    @classmethod
    def register_strategies(cls, strategy_registry: _StrategyRegistry) -> None:
        """Adds the names under which this class can be asked for."""

    def __getstate__(self) -> dict[str, Any]:
        # the wrappers hold this strategy and methods of it; they are made anew from the optimizers
        return {**vars(self), "_lightning_optimizers": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        self.optimizers = self.optimizers
