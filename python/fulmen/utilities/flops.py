"""Counting floating point operations."""

from __future__ import annotations

from collections.abc import Callable

import torch


def measure_flops(
    model: torch.nn.Module,
    forward_fn: Callable[[], torch.Tensor],
    loss_fn: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> int:
    """Count the floating point operations of a pass through a model, by running it once.

    With a model and inputs on the meta device nothing is computed.

    Args:
        model: the model; only for documentation, operations are counted wherever they happen.
        forward_fn: runs the model and returns its output.
        loss_fn: makes a loss from that output. If given, loss and backward pass count too.

    Returns:
        The number of operations.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        output = forward_fn()
        if loss_fn is not None:
            loss_fn(output).backward()
    return int(counter.get_total_flops())
