"""Helpers for modules, callbacks and loops."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

from fulmen.utilities.combined_loader import CombinedLoader
from fulmen.utilities.data import suggested_max_num_workers
from fulmen.utilities.enums import GradClipAlgorithmType, LightningEnum
from fulmen.utilities.files import is_shared_filesystem
from fulmen.utilities.flops import measure_flops
from fulmen.utilities.grads import grad_norm
from fulmen.utilities.move_data import move_data_to_device
from fulmen.utilities.parameter_tying import find_shared_parameters, set_shared_parameters
from fulmen.utilities.parsing import AttributeDict, is_picklable
from fulmen.utilities.rank_zero import rank_zero_deprecation, rank_zero_info, rank_zero_only, rank_zero_warn
from fulmen.utilities.warnings import disable_possible_user_warnings

__all__ = ["AttributeDict", "GradClipAlgorithmType", "LightningEnum", "is_picklable", "is_shared_filesystem"]
__all__ += ["CombinedLoader", "move_data_to_device", "suggested_max_num_workers"]
__all__ += ["find_shared_parameters", "set_shared_parameters", "grad_norm", "measure_flops"]
__all__ += ["rank_zero_only", "rank_zero_info", "rank_zero_warn", "rank_zero_deprecation"]
__all__ += ["disable_possible_user_warnings"]

# differences between neighbouring numbers of these types at 1.0
FLOAT16_EPSILON = torch.finfo(torch.float16).eps
FLOAT32_EPSILON = torch.finfo(torch.float32).eps
FLOAT64_EPSILON = torch.finfo(torch.float64).eps

_MODULES = frozenset(["compile", "imports", "memory", "model_helpers", "model_summary", "seed", "signature_utils"])


def __getattr__(name: str) -> Any:
    # modules that nothing above loads: attributes from their first use on
    if name in _MODULES:
        return import_module(f"fulmen.utilities.{name}")
    raise AttributeError(f"module 'fulmen.utilities' has no attribute {name!r}")
