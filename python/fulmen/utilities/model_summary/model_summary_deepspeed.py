"""The summary of a module whose parameters are spread over the ranks by DeepSpeed (ZeRO stage 3)."""

from __future__ import annotations

from typing import Any

from torch import nn

from fulmen.utilities.model_summary.layer_summary import LayerSummary, count
from fulmen.utilities.model_summary.model_summary import ModelSummary
from fulmen.utilities.model_summary.table import get_human_readable_count


def deepspeed_param_size(p: Any) -> int:
    """Number of elements of a parameter on all ranks together."""
    assert hasattr(p, "ds_numel")
    size: int = p.ds_numel
    return size


class DeepSpeedLayerSummary(LayerSummary):
    """A `LayerSummary` that knows how parameters are spread."""

    @property
    def num_parameters(self) -> int:
        """Number of its parameters on all ranks together."""
        return count(self._module.parameters(), deepspeed_param_size)

    @property
    def average_shard_parameters(self) -> int:
        """Number of its parameters on one rank."""
        return count(self._module.parameters(), _shard_size)


class DeepSpeedSummary(ModelSummary):
    """A `ModelSummary` with a column for the number of parameters per device. Arguments as there."""

    def _summarize_layer(self, module: nn.Module) -> LayerSummary:
        return DeepSpeedLayerSummary(module)

    def _count(self, parameters: list[nn.Parameter]) -> int:
        return count(parameters, deepspeed_param_size)

    @property
    def parameters_per_layer(self) -> list[int]:
        """Number of each layer's parameters on one rank."""
        return [layer.average_shard_parameters for layer in self._layer_summary.values()]

    def _columns(self) -> dict[str, list[str]]:
        columns: dict[str, list[str]] = {}
        for header, cells in super()._columns().items():
            columns[header] = cells
            if header == "Params":
                columns["Params per Device"] = [get_human_readable_count(n) for n in self.parameters_per_layer]
        return columns


def _shard_size(parameter: Any) -> int:
    size: int = parameter.partition_numel()
    return size
