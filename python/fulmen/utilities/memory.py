"""Memory: letting go of graphs, and telling when it has run out."""

from __future__ import annotations

import gc
from typing import Any

import torch
from torch import Tensor

from fulmen.utilities.nested import apply_to_collection


def recursive_detach(in_dict: Any, to_cpu: bool = False) -> Any:
    """Detach all tensors in a collection from their graphs.

    Args:
        in_dict: a tensor, or nested dictionaries, lists, tuples and dataclasses; what is no tensor is kept.
        to_cpu: also copy the tensors to the host.

    Returns:
        The same structure with detached tensors.
    """
    return apply_to_collection(in_dict, Tensor, lambda t: t.detach().cpu() if to_cpu else t.detach())


def is_oom_error(exception: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a CUDA device or on the host."""
    return is_cuda_out_of_memory(exception) or is_cudnn_snafu(exception) or is_out_of_cpu_memory(exception)


def is_cuda_out_of_memory(exception: BaseException) -> bool:
    """Whether an exception is CUDA's "out of memory"."""
    return _says(exception, "CUDA", "out of memory")


def is_cudnn_snafu(exception: BaseException) -> bool:
    """Whether an exception is cuDNN's "not supported", which large inputs get for lack of memory (pytorch #4107)."""
    return _says(exception, "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED.")


def is_out_of_cpu_memory(exception: BaseException) -> bool:
    """Whether an exception is that of torch's allocator on the host."""
    return _says(exception, "DefaultCPUAllocator: can't allocate memory")


def _says(exception: BaseException, *texts: str) -> bool:
    if not isinstance(exception, RuntimeError) or len(exception.args) != 1:
        return False
    return all(text in exception.args[0] for text in texts)


def garbage_collection_cuda() -> None:
    """Collect garbage and give torch's unused CUDA memory back to the device."""
    gc.collect()
    try:
        torch.cuda.empty_cache()
    except RuntimeError as error:
        # on a full device the call itself can fail; the caller is about to deal with that
        if not is_oom_error(error):
            raise
