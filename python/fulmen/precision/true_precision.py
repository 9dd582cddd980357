"""Weights, inputs and computation all in one type: what 64 and 16 bit have in common."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import Module

from fulmen.core.device_dtype import DeviceDtypeMixin
from fulmen.precision.dtypes import _convert_fp_tensor, _DtypeContextManager, convert_floats
from fulmen.precision.precision import Precision


class TruePrecision(Precision):
    """A precision in which everything has the type ``_desired_input_dtype``."""

    _desired_input_dtype: torch.dtype

    def convert_module(self, module: Module) -> Module:
        """The module, converted in place. Complex buffers are not: create them in ``configure_model``."""
        # `Module.to` would take complex numbers too, and drop their imaginary parts
        for part in module.modules():
            if isinstance(part, DeviceDtypeMixin):
                part._dtype = self._desired_input_dtype
        module._apply(lambda tensor: _convert_fp_tensor(tensor, self._desired_input_dtype))
        return module

    def convert_input(self, data: Any) -> Any:
        """The batch with its floating point tensors converted."""
        return convert_floats(data, self._desired_input_dtype)

    def tensor_init_context(self) -> _DtypeContextManager:
        """Context that makes the type torch's default."""
        return _DtypeContextManager(self._desired_input_dtype)

    def module_init_context(self) -> _DtypeContextManager:
        """As `tensor_init_context`."""
        return self.tensor_init_context()

    def forward_context(self) -> _DtypeContextManager:
        """As `tensor_init_context`: tensors that a step creates have the type, too."""
        return self.tensor_init_context()
