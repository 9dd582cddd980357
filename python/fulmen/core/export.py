"""Leaving Python: ONNX and TorchScript."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from fulmen.utilities.rank_zero import rank_zero_deprecation


class ExportMixin:
    """Part of `LightningModule`."""

    @torch.no_grad()
    def to_onnx(self: Any, file_path: Any = None, input_sample: Any | None = None, **kwargs: Any) -> Any:
        """Exports to ONNX: to a file, a file object, or with ``dynamo=True`` as a returned program."""
        mode = self.training
        if input_sample is None:
            if self.example_input_array is None:
                raise ValueError(
                    "Could not export to ONNX since neither `input_sample` nor `model.example_input_array` attribute is "
                    "set. Pass one."
                )
            input_sample = self.example_input_array
        input_sample = self._on_before_batch_transfer(input_sample)
        input_sample = self._apply_batch_transfer_handler(input_sample)
        file_path = str(file_path) if isinstance(file_path, Path) else file_path
        self.eval()
        program = torch.onnx.export(self, input_sample, file_path, **kwargs)
        self.train(mode)
        return program

    def _on_before_batch_transfer(self: Any, batch: Any, dataloader_idx: int = 0) -> Any:
        return self.on_before_batch_transfer(batch, dataloader_idx)

    def _apply_batch_transfer_handler(
        self: Any, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0
    ) -> Any:
        batch = self.transfer_batch_to_device(batch, device or self.device, dataloader_idx)
        return self.on_after_batch_transfer(batch, dataloader_idx)

    @torch.no_grad()
    def to_torchscript(
        self: Any,
        file_path: Any = None,
        method: str | None = "script",
        example_inputs: Any | None = None,
        **kwargs: Any,
    ) -> Any:
        """Compiles to TorchScript by "script" or "trace"; writes it to ``file_path`` if given."""
        rank_zero_deprecation(
            "`LightningModule.to_torchscript` has been deprecated in v2.7 and will be removed in v2.8, since torch deprecates "
            "TorchScript: use `to_onnx` or `torch.export`."
        )
        mode = self.training
        if method == "script":
            with self._scripting():
                module = torch.jit.script(self.eval(), **kwargs)
        elif method == "trace":
            example_inputs = self.example_input_array if example_inputs is None else example_inputs
            if example_inputs is None:
                raise ValueError(
                    "Choosing method=`trace` requires either `example_inputs` or `model.example_input_array`."
                )
            example_inputs = self._apply_batch_transfer_handler(self._on_before_batch_transfer(example_inputs))
            with self._scripting():
                module = torch.jit.trace(func=self.eval(), example_inputs=example_inputs, **kwargs)
        else:
            raise ValueError(f"The 'method' parameter only supports 'script' or 'trace', but value given was: {method}")
        self.train(mode)
        if file_path is not None:
            torch.jit.save(module, str(file_path))
        return module

    def to_tensorrt(
        self: Any,
        file_path: Any = None,
        input_sample: Any | None = None,
        ir: str = "default",
        output_format: str = "exported_program",
        retrace: bool = False,
        default_device: Any = "cuda",
        **compile_kwargs: Any,
    ) -> Any:
        """Not available yet; the signature is that of Lightning's method."""
        from fulmen.errors import NotYet

        raise NotYet("LightningModule.to_tensorrt", "Export with `to_onnx` and build the engine from that file.")

    @contextmanager
    def _scripting(self: Any) -> Generator[None]:
        trainer, self._jit_is_scripting = self._trainer, True
        vars(self)["_trainer"] = None
        try:
            with warnings.catch_warnings():
                # the method's own deprecation warning has said it already
                warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=FutureWarning)
                warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=DeprecationWarning)
                yield
        finally:
            vars(self)["_trainer"], self._jit_is_scripting = trainer, False
