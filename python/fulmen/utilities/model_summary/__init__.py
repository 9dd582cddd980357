"""What a module consists of: its layers, their parameters, sizes and costs, as a table."""

from __future__ import annotations

from fulmen.utilities.model_summary.layer_summary import LayerSummary, parse_batch_shape
from fulmen.utilities.model_summary.model_summary import ModelSummary, summarize
from fulmen.utilities.model_summary.model_summary_deepspeed import DeepSpeedSummary
from fulmen.utilities.model_summary.table import get_formatted_model_size, get_human_readable_count

__all__ = [
    "DeepSpeedSummary",
    "LayerSummary",
    "ModelSummary",
    "get_formatted_model_size",
    "get_human_readable_count",
    "parse_batch_shape",
    "summarize",
]
