"""Describing gradients."""

from __future__ import annotations

from typing import cast

import torch
from torch.nn import Module


def grad_norm(module: Module, norm_type: float | int | str, group_separator: str = "/") -> dict[str, float]:
    """The p-norm of every parameter's gradient, and of all of them together.

    Args:
        module: whose gradients.
        norm_type: p > 0, or ``"inf"`` for the largest absolute value.
        group_separator: put between the norm's and the parameter's name; loggers group by ``"/"``.

    Returns:
        0-dim tensors: ``grad_{p}_norm{separator}{parameter}`` for each parameter that has a gradient, and
        ``grad_{p}_norm_total``, the norm of all gradients as one vector. Empty if there is no gradient.

    Raises:
        ValueError: p is not positive.
    """
    p = float(norm_type)
    if p <= 0:
        raise ValueError(f"`norm_type` must be a positive number or 'inf' (infinity norm), got {p}.")
    prefix = f"grad_{p}_norm"
    norms = {
        f"{prefix}{group_separator}{name}": torch.linalg.vector_norm(parameter.grad.detach(), p)
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    if norms:
        # through the host: parameters may live on several devices
        norms[f"{prefix}_total"] = torch.tensor([norm.item() for norm in norms.values()]).norm(p)
    return cast(dict[str, float], norms)
