"""How a trial keeps weights and optimizers: values on the host, which are written back in place."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from fulmen import errors
from fulmen.trainer.evaluate import remember_modes, restore_modes
from fulmen.trainer.hook_table import fire, module_call
from fulmen.utilities.nested import apply_to_collection

if TYPE_CHECKING:
    from fulmen.core.module import LightningModule
    from fulmen.trainer.trainer import Trainer

Undo = Callable[[], None]


def on_host(data: Any) -> Any:
    """A copy of nested plain data that shares nothing with it, its tensors on the host."""
    return copy.deepcopy(apply_to_collection(data, Tensor, lambda tensor: tensor.detach().to("cpu", copy=True)))


def keep_module(trainer: Trainer) -> Undo:
    """Parameters and buffers (those too that no checkpoint has), gradients, modes, and what the module's hooks save.

    Raises:
        MisconfigurationException: a parameter has no shape yet.
    """
    module = trainer.lightning_module
    _refuse_lazy(module)
    with torch.inference_mode(False), torch.no_grad():
        tensors = [
            (tensor, tensor.detach().to("cpu", copy=True), tensor.requires_grad)
            for tensor in chain(module.parameters(), module.buffers())
            if not tensor.is_meta
        ]
    gradients = [(parameter, parameter.grad) for parameter in module.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    modes = remember_modes(module)
    extra = _extra_state(module)
    load_own = _keep_own(trainer)

    def put_back() -> None:
        with torch.inference_mode(False), torch.no_grad():
            for tensor, value, needs_gradient in tensors:
                tensor.copy_(value)
                if tensor.is_leaf:
                    tensor.requires_grad_(needs_gradient)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        restore_modes(modes)
        if extra:
            module.load_state_dict(extra, strict=False)
        load_own()

    return put_back


def _refuse_lazy(module: LightningModule) -> None:
    lazy = [name for name, parameter in module.named_parameters() if is_lazy(parameter)]
    if lazy:
        raise errors.misconfiguration(
            "model",
            "parameters that have a shape, since a trial has to put back what it trains",
            errors.Words(f"parameters without one: {lazy[:5]}"),
            "Call the module once on a batch before, so that its lazy layers are initialised",
        )


def _extra_state(module: LightningModule) -> dict[str, Any]:
    """What the state dict has besides parameters and buffers: metric objects, ``get_extra_state``."""
    names = {
        name
        for name, _ in chain(
            module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)
        )
    }
    return {name: copy.deepcopy(value) for name, value in module.state_dict().items() if name not in names}


def _keep_own(trainer: Trainer) -> Undo:
    """What ``on_save_checkpoint`` of the module saves goes to its ``on_load_checkpoint``."""
    save = module_call(trainer, "on_save_checkpoint")
    load = module_call(trainer, "on_load_checkpoint")
    if not save and not load:
        return lambda: None
    module = trainer.lightning_module
    usual = {
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "state_dict": module.state_dict(),
        "optimizer_states": [trainer.strategy.optimizer_state(o) for o in trainer.optimizers],
        "lr_schedulers": [c.scheduler.state_dict() for c in trainer.lr_scheduler_configs],
        "callbacks": {},
        "hyper_parameters": dict(module.hparams),
    }
    checkpoint: dict[str, Any] = dict(usual)
    fire(trainer, "on_save_checkpoint", save, checkpoint)
    # the usual entries stand for themselves: they are put back before the module sees them again
    own = {name: on_host(value) for name, value in checkpoint.items() if value is not usual.get(name)}
    return lambda: fire(trainer, "on_load_checkpoint", load, {**checkpoint, **own})


def keep_optimizers(trainer: Trainer) -> Undo:
    """States and settings of optimizers, schedulers and precision. In the trial no scheduler of the trainer's steps."""
    strategy = trainer.strategy
    optimizers = [on_host(strategy.optimizer_state(optimizer)) for optimizer in trainer.optimizers]
    configs = strategy.lr_scheduler_configs
    schedulers = [on_host(config.scheduler.state_dict()) for config in configs]
    precision = on_host(trainer.precision_plugin.state_dict())
    if trainer.lightning_module.automatic_optimization:
        strategy.lr_scheduler_configs = []

    def put_back() -> None:
        strategy.load_optimizer_state_dict({"optimizer_states": optimizers})
        strategy.lr_scheduler_configs = configs
        for config, state in zip(configs, schedulers, strict=True):
            config.scheduler.load_state_dict(state)
        if precision:
            trainer.precision_plugin.load_state_dict(precision)

    return put_back
