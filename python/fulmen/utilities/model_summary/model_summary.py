"""What a whole module consists of."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fulmen.utilities.model_helpers import _ModuleMode
from fulmen.utilities.model_summary.layer_summary import (
    UNKNOWN_SIZE,
    LayerSummary,
    count,
    parse_batch_shape,
    warning_cache,
)
from fulmen.utilities.model_summary.table import (
    PARAMETER_NUM_UNITS,
    _format_summary_table,
    get_formatted_model_size,
    get_human_readable_count,
)
from fulmen.utilities.rank_zero import rank_zero_warn

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

    from fulmen.core.module import LightningModule

__all__ = [
    "LEFTOVER_PARAMS_NAME",
    "NOT_APPLICABLE",
    "PARAMETER_NUM_UNITS",
    "UNKNOWN_SIZE",
    "LayerSummary",
    "ModelSummary",
    "get_formatted_model_size",
    "get_human_readable_count",
    "parse_batch_shape",
    "summarize",
    "warning_cache",
]

LEFTOVER_PARAMS_NAME = "other params"
NOT_APPLICABLE = "n/a"

_BITS = {"64": 64, "32": 32, "16": 16, "bf16": 16, "64-true": 64, "32-true": 32, "16-true": 16, "bf16-true": 16}


class ModelSummary:
    """The layers of a module, with their parameters; printed, a table.

    If the module has an ``example_input_array`` (a tensor, or a list, tuple or dictionary of ``forward``'s arguments),
    it is run once, in eval mode and without gradients, to learn the sizes of inputs and outputs and the floating point
    operations. Layers that the run does not reach have sizes ``"?"``. Parameters that belong to no layer appear as
    ``other params``.

    Args:
        model: the module.
        max_depth: levels of nesting to show; -1: all; 0: none.

    Raises:
        ValueError: another ``max_depth``.
    """

    def __init__(self, model: LightningModule, max_depth: int = 1) -> None:
        if not isinstance(max_depth, int) or max_depth < -1:
            raise ValueError(f"`max_depth` can be -1, 0 or > 0, got {max_depth}.")
        self._model = model
        self._max_depth = max_depth
        self._flop_counter: FlopCounterMode | None = None
        self._layer_summary = self.summarize()
        self._precision_megabytes = self._bits() / 8.0 * 1e-6

    # ---- layers ------------------------------------------------------------------------------------------------------

    def summarize(self) -> dict[str, Any]:
        """Look at the module, running its example; returns name to `LayerSummary`."""
        # all levels are watched, since a layer's inputs may be seen where it is nested in another one
        layers = {name: self._summarize_layer(module) for name, module in self.named_modules}
        if self._model.example_input_array is not None:
            self._forward_example_input()
        for layer in layers.values():
            layer.detach_hook()
        deepest = self._max_depth if self._max_depth >= 1 else float("inf")
        return {name: layer for name, layer in layers.items() if name.count(".") < deepest}

    def _summarize_layer(self, module: nn.Module) -> LayerSummary:
        return LayerSummary(module)

    @property
    def named_modules(self) -> list[tuple[str, nn.Module]]:
        """The submodules that are looked at: none, the children or all, by depth."""
        if self._max_depth == 0:
            return []
        if self._max_depth == 1:
            return list(self._model.named_children())
        return list(self._model.named_modules())[1:]

    @property
    def layer_names(self) -> list[str]:
        """Name of each layer."""
        return list(self._layer_summary)

    @property
    def layer_types(self) -> list[str]:
        """Class of each layer."""
        return [layer.layer_type for layer in self._layer_summary.values()]

    @property
    def in_sizes(self) -> list[Any]:
        """Shape of each layer's input."""
        return [layer.in_size for layer in self._layer_summary.values()]

    @property
    def out_sizes(self) -> list[Any]:
        """Shape of each layer's output."""
        return [layer.out_size for layer in self._layer_summary.values()]

    @property
    def param_nums(self) -> list[int]:
        """Number of each layer's parameters."""
        return [layer.num_parameters for layer in self._layer_summary.values()]

    @property
    def training_modes(self) -> list[bool]:
        """Whether each layer is in train mode."""
        return [layer.training for layer in self._layer_summary.values()]

    @property
    def flop_counts(self) -> dict[str, dict[Any, int]]:
        """Floating point operations of each layer's forward pass, by torch operator."""
        counts: dict[str, dict[Any, int]] = {} if self._flop_counter is None else self._flop_counter.get_flop_counts()
        root = type(self._model).__name__
        return {name: counts.get(f"{root}.{name}", {}) for name in self.layer_names}

    # ---- totals ------------------------------------------------------------------------------------------------------

    @property
    def total_training_modes(self) -> dict[str, int]:
        """Number of submodules at any depth in mode ``"train"`` and ``"eval"``."""
        modes = [module.training for module in self._model.modules()][1:]
        return {"train": sum(modes), "eval": len(modes) - sum(modes)}

    @property
    def total_parameters(self) -> int:
        """Number of the module's parameters."""
        return self._count(list(self._model.parameters()))

    @property
    def trainable_parameters(self) -> int:
        """Number of the module's parameters that get gradients."""
        return self._count([parameter for parameter in self._model.parameters() if parameter.requires_grad])

    def _count(self, parameters: list[nn.Parameter]) -> int:
        return count(parameters)

    @property
    def total_layer_params(self) -> int:
        """Sum of the layers' numbers of parameters."""
        return sum(self.param_nums)

    @property
    def model_size(self) -> float:
        """Size of the parameters in megabytes (10⁶ bytes), in the trainer's precision."""
        return self.total_parameters * self._precision_megabytes

    @property
    def total_flops(self) -> int:
        """Floating point operations of the forward pass; 0 without an example."""
        return 0 if self._flop_counter is None else self._flop_counter.get_total_flops()

    def _bits(self) -> int:
        trainer = self._model._trainer
        if trainer is None:
            return 32
        precision = str(trainer.precision)
        if precision not in _BITS:
            rank_zero_warn(
                f"Precision {precision} is not supported by the model summary. The estimated size in MB is that of "
                "32 bits.",
                category=UserWarning,
            )
        return _BITS.get(precision, 32)

    # ---- the example -------------------------------------------------------------------------------------------------

    def _forward_example_input(self) -> None:
        """Run the module on its example; the layers' hooks and the counter see what happens."""
        from torch.utils.flop_counter import FlopCounterMode

        model = self._model
        # a summary needs no trainer: hence the private attribute
        trainer = model._trainer
        example = model._apply_batch_transfer_handler(model._on_before_batch_transfer(model.example_input_array))
        self._flop_counter = FlopCounterMode(display=False, depth=self._max_depth + 1)
        mode = _ModuleMode()
        mode.capture(model)
        model.eval()
        precision = nullcontext() if trainer is None else trainer.precision_plugin.forward_context()
        try:
            with torch.no_grad(), precision, self._flop_counter:
                if isinstance(example, list | tuple):
                    model(*example)
                elif isinstance(example, dict):
                    model(**example)
                else:
                    model(example)
        finally:
            mode.restore(model)

    # ---- the table ---------------------------------------------------------------------------------------------------

    def _get_summary_data(self) -> list[tuple[str, list[str]]]:
        """Header and cells of each column."""
        columns = self._columns()
        others = self.total_parameters - self.total_layer_params
        if others > 0:
            texts = {" ": " ", "Name": LEFTOVER_PARAMS_NAME, "Params": get_human_readable_count(others)}
            for header, cells in columns.items():
                cells.append(texts.get(header, NOT_APPLICABLE))
        return list(columns.items())

    def _columns(self) -> dict[str, list[str]]:
        """The columns without the parameters that belong to no layer."""
        columns = {
            " ": [str(number) for number in range(len(self._layer_summary))],
            "Name": self.layer_names,
            "Type": self.layer_types,
            "Params": [get_human_readable_count(number) for number in self.param_nums],
            "Mode": ["train" if training else "eval" for training in self.training_modes],
            "FLOPs": [get_human_readable_count(sum(counts.values())) for counts in self.flop_counts.values()],
        }
        if self._model.example_input_array is not None:
            columns["In sizes"] = [str(size) for size in self.in_sizes]
            columns["Out sizes"] = [str(size) for size in self.out_sizes]
        return columns

    def __str__(self) -> str:
        return _format_summary_table(
            self.total_parameters,
            self.trainable_parameters,
            self.model_size,
            self.total_training_modes,
            self.total_flops,
            *self._get_summary_data(),
        )

    def __repr__(self) -> str:
        return str(self)


def summarize(lightning_module: LightningModule, max_depth: int = 1) -> ModelSummary:
    """Summarize a module.

    Args:
        lightning_module: the module.
        max_depth: levels of nesting to show; -1: all; 0: none.

    Raises:
        ValueError: another ``max_depth``.
    """
    return ModelSummary(lightning_module, max_depth=max_depth)
