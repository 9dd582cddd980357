"""On what a run goes: from ``accelerator``, ``devices``, ``strategy``, ``precision`` and ``plugins`` to one strategy."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import torch

from fulmen import errors
from fulmen.accelerators import AcceleratorRegistry
from fulmen.accelerators.accelerator import Accelerator
from fulmen.accelerators.cpu import CPUAccelerator
from fulmen.plugins.environments.cluster_environment import ClusterEnvironment
from fulmen.plugins.environments.lightning import LightningEnvironment
from fulmen.plugins.io.checkpoint_io import CheckpointIO
from fulmen.plugins.layer_sync import LayerSync
from fulmen.precision.double import DoublePrecision
from fulmen.precision.half import HalfPrecision
from fulmen.precision.mixed import MixedPrecision
from fulmen.precision.precision import Precision
from fulmen.strategies.single_device import SingleDeviceStrategy
from fulmen.strategies.strategy import Strategy
from fulmen.utilities.rank_zero import rank_zero_info, rank_zero_warn

#: Names of strategies for several devices or processes, which a later version brings.
LATER_STRATEGIES = (
    "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true", "ddp_spawn", "ddp_fork",
    "ddp_notebook", "fsdp", "fsdp_cpu_offload", "deepspeed", "deepspeed_stage_1", "deepspeed_stage_2",
    "deepspeed_stage_3", "deepspeed_stage_1_offload", "deepspeed_stage_2_offload", "deepspeed_stage_3_offload",
    "deepspeed_stage_3_offload_nvme", "model_parallel", "xla", "single_xla", "single_tpu",
)  # fmt: skip
ONE_DEVICE = ("auto", "single_device")

PRECISIONS = {
    16: "16-mixed", "16": "16-mixed", "16-mixed": "16-mixed", "bf16": "bf16-mixed", "bf16-mixed": "bf16-mixed",
    32: "32-true", "32": "32-true", "32-true": "32-true", 64: "64-true", "64": "64-true", "64-true": "64-true",
    "16-true": "16-true", "bf16-true": "bf16-true", None: "32-true",
}  # fmt: skip
LATER_PRECISIONS = ("transformer-engine", "transformer-engine-float16")


@dataclass
class Devices:
    """What the arguments stand for.

    Attributes:
        strategy: holds accelerator, precision and checkpoint I/O.
        device_ids: indices of the devices of this node.
        cluster_environment: who started this process.
        is_distributed: whether there is more than one process.
    """

    strategy: Strategy
    accelerator: Accelerator
    precision: Precision
    cluster_environment: ClusterEnvironment
    device_ids: list[int]
    num_nodes: int = 1
    is_distributed: bool = False
    checkpoint_io: CheckpointIO | None = field(default=None)

    @classmethod
    def resolve(
        cls,
        *,
        accelerator: Any = "auto",
        strategy: Any = "auto",
        devices: Any = "auto",
        num_nodes: Any = 1,
        precision: Any = None,
        plugins: Any = None,
        sync_batchnorm: bool = False,
        benchmark: bool | None = None,
        deterministic: Any = None,
        use_distributed_sampler: bool = True,
    ) -> Devices:
        """Puts the parts together; arguments as for ``Trainer``.

        Raises:
            MisconfigurationException: a device that is not there, or parts that contradict each other.
            ValueError: an unknown name.
            NotYet: a strategy for several devices, or a precision that a later version brings.
        """
        set_determinism(deterministic, benchmark)
        parts = Plugins.sort(plugins)
        _check_nodes(num_nodes)
        hardware = _accelerator(accelerator, strategy)
        ids, parallel = _devices(hardware, devices)
        chosen = _strategy(strategy, len(parallel), int(num_nodes), parallel)
        if chosen.accelerator is None:
            chosen.accelerator = hardware
        if parts.checkpoint_io is not None:
            chosen.checkpoint_io = parts.checkpoint_io
        plugin = _precision(precision, parts.precision, chosen, hardware)
        chosen.precision_plugin = plugin
        if sync_batchnorm:
            rank_zero_warn("`Trainer(sync_batchnorm=True)` has nothing to synchronise: the run uses one process.")
        _report(hardware)
        environment = parts.environment or _environment()
        return cls(chosen, hardware, plugin, environment, ids, 1, False, parts.checkpoint_io)


@dataclass
class Plugins:
    """``Trainer(plugins=...)``, by kind."""

    precision: Precision | None = None
    environment: ClusterEnvironment | None = None
    checkpoint_io: CheckpointIO | None = None
    layer_sync: LayerSync | None = None

    @classmethod
    def sort(cls, given: Any) -> Plugins:
        """Says for each plugin what it is.

        Raises:
            MisconfigurationException: something that is no plugin, or two of one kind.
        """
        kinds: tuple[tuple[str, type], ...] = (
            ("precision", Precision),
            ("environment", ClusterEnvironment),
            ("checkpoint_io", CheckpointIO),
            ("layer_sync", LayerSync),
        )
        found = cls()
        plugins = list(given) if isinstance(given, (list, tuple)) else [] if given is None else [given]
        for plugin in plugins:
            name = next((name for name, kind in kinds if isinstance(plugin, kind)), None)
            if name is None:
                raise errors.misconfiguration(
                    "Trainer(plugins)",
                    "precision, checkpoint I/O, cluster environment or layer sync objects: Found invalid type for plugin",
                    plugin,
                    "Pass an instance of one of these",
                )
            if getattr(found, name) is not None:
                raise errors.misconfiguration(
                    "Trainer(plugins)",
                    f"at most one plugin of a kind: Received multiple values for {type(plugin).__name__} flags in `plugins`",
                    [type(p).__name__ for p in plugins],
                    "Expected one value for each type at most: drop the others",
                )
            setattr(found, name, plugin)
        return found


def set_determinism(deterministic: Any, benchmark: bool | None) -> None:
    """Sets torch's global switches."""
    if benchmark is not None:
        torch.backends.cudnn.benchmark = benchmark
    elif deterministic:
        torch.backends.cudnn.benchmark = False
    if deterministic is None:
        return
    if deterministic not in (True, False, "warn"):
        raise errors.value_error("Trainer(deterministic)", "True, False or 'warn'", deterministic, "Use one of them")
    torch.use_deterministic_algorithms(bool(deterministic), warn_only=deterministic == "warn")
    if deterministic:
        # cuBLAS reads this when it starts: https://docs.nvidia.com/cuda/cublas/index.html#results-reproducibility
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def _check_nodes(num_nodes: Any) -> None:
    if not isinstance(num_nodes, int) or num_nodes < 1:
        raise errors.value_error(
            "Trainer(num_nodes)", "`num_nodes` must be a positive integer", num_nodes, "Pass 1 for one machine"
        )


def _accelerator(given: Any, strategy: Any) -> Accelerator:
    if isinstance(given, Accelerator):
        return given
    if isinstance(strategy, Strategy) and strategy.accelerator is not None:
        return strategy.accelerator
    if given == "auto":
        for name in ("cuda", "mps"):
            if AcceleratorRegistry[name]["accelerator"].is_available():
                given = name
                break
        else:
            given = "cpu"
        if isinstance(strategy, SingleDeviceStrategy):
            given = strategy.root_device.type
    elif given == "gpu":
        found = [n for n in ("cuda", "mps") if AcceleratorRegistry[n]["accelerator"].is_available()]
        if not found:
            raise errors.misconfiguration(
                "Trainer(accelerator)",
                "a GPU in this machine: No supported gpu backend found!",
                "gpu",
                "Use accelerator='cpu', or install a torch that supports your GPU",
            )
        given = found[0]
    elif given == "tpu":
        raise errors.NotYet("Trainer(accelerator='tpu')", "Use 'cpu', 'cuda' or 'mps'.")
    if given not in AcceleratorRegistry:
        raise errors.value_error(
            "Trainer(accelerator)",
            "one of 'auto', 'gpu', "
            + ", ".join(repr(n) for n in sorted(AcceleratorRegistry.available_accelerators()))
            + ": You selected an invalid accelerator name",
            given,
            "Pass one of these names, or an Accelerator",
        )
    kind = AcceleratorRegistry[given]["accelerator"]
    if not kind.is_available():
        here = [n for n in ("cpu", "cuda", "mps") if AcceleratorRegistry[n]["accelerator"].is_available()]
        raise errors.misconfiguration(
            "Trainer(accelerator)",
            f"a device of this machine: `{kind.__name__}` can not run on your system since the accelerator is not available",
            given,
            f"The following accelerator(s) is available and can be passed into `accelerator` argument: {here}",
        )
    made: Accelerator = AcceleratorRegistry.get(given)
    return made


def _devices(hardware: Accelerator, devices: Any) -> tuple[list[int], list[torch.device]]:
    """The indices of the devices, and the devices."""
    if devices is None or devices in ([], "", "0") or (devices == 0 and devices is not False):
        raise errors.misconfiguration(
            "Trainer(devices)",
            f"at least one device: `Trainer(devices={devices!r})` value is not a valid input using "
            f"{hardware.name()} accelerator",
            devices,
            "Pass a number above 0, a list of indices, -1 or 'auto'",
        )
    # one device is what the present strategies run on, so "auto" does not take more
    parsed = hardware.parse_devices(1 if devices == "auto" else devices)
    parallel = hardware.get_parallel_devices(parsed)
    ids = [d.index if d.index is not None else i for i, d in enumerate(parallel)]
    return ids, parallel


def _strategy(given: Any, count: int, nodes: int, parallel: list[torch.device]) -> Strategy:
    if isinstance(given, Strategy):
        if not isinstance(given, SingleDeviceStrategy):
            several = getattr(type(given), "_later", None)
            if several is not None:
                raise errors.NotYet(f"Trainer(strategy={type(given).__name__}(...))", "Use one device.")
        return given
    if isinstance(given, str) and given in LATER_STRATEGIES:
        raise errors.NotYet(f"Trainer(strategy={given!r})", "Use one device: strategy='auto', devices=1.")
    if given not in ONE_DEVICE:
        raise errors.value_error(
            "Trainer(strategy)",
            f"'auto', 'single_device' or a Strategy: You selected an invalid strategy name (later: {LATER_STRATEGIES})",
            given,
            "Pass one of these",
        )
    if count > 1 or nodes > 1:
        raise errors.NotYet(
            f"a run on {count} devices and {nodes} nodes", "Use one device: Trainer(devices=1, num_nodes=1)."
        )
    return SingleDeviceStrategy(device=parallel[0] if parallel else "cpu")


def _precision(given: Any, plugin: Precision | None, strategy: Strategy, hardware: Accelerator) -> Precision:
    if plugin is not None:
        if given is not None:
            raise errors.value_error(
                "Trainer(precision)",
                "None beside a precision plugin: Received both `precision` and `plugins`",
                given,
                f"Choose one: precision={given!r} or plugins={type(plugin).__name__}(...)",
            )
        return plugin
    if given is None and strategy._precision_plugin is not None:
        return strategy._precision_plugin
    if given in LATER_PRECISIONS:
        raise errors.NotYet(f"Trainer(precision={given!r})", "Use 'bf16-mixed' or another of torch's precisions.")
    try:
        name = PRECISIONS[given]
    except (KeyError, TypeError):
        known = sorted({str(p) for p in PRECISIONS if p is not None})
        raise errors.value_error(
            "Trainer(precision)", f"one of {known}: Precision {given!r} is invalid", given, "Pass one of these"
        ) from None
    if name == "16-mixed" and isinstance(hardware, CPUAccelerator):
        rank_zero_warn(
            "You passed `Trainer(accelerator='cpu', precision='16-mixed')` but AMP with fp16 is not supported on CPU. "
            "Using `precision='bf16-mixed'` instead."
        )
        name = "bf16-mixed"
    if name == "64-true":
        return DoublePrecision()
    if name in ("16-true", "bf16-true"):
        return HalfPrecision(name)  # type: ignore[arg-type]  # one of the names that were compared
    if name in ("16-mixed", "bf16-mixed"):
        device = "cpu" if isinstance(hardware, CPUAccelerator) else strategy.root_device.type
        kind = "16-bit" if name == "16-mixed" else "bfloat16"
        rank_zero_info(f"Using {kind} Automatic Mixed Precision (AMP)")
        return MixedPrecision(name, device)  # type: ignore[arg-type]  # one of the names that were compared
    return Precision()


def _environment() -> ClusterEnvironment:
    from fulmen.plugins.environments.slurm import SLURMEnvironment

    return SLURMEnvironment() if SLURMEnvironment.detect() else LightningEnvironment()


def _report(hardware: Accelerator) -> None:
    cuda = torch.cuda.is_available()
    mps = AcceleratorRegistry["mps"]["accelerator"].is_available()
    kind = " (cuda)" if cuda else " (mps)" if mps else ""
    used = not isinstance(hardware, CPUAccelerator)
    rank_zero_info(f"GPU available: {cuda or mps}{kind}, used: {used}")
    if (cuda or mps) and not used:
        rank_zero_warn("GPU available but not used. You can set it by doing `Trainer(accelerator='gpu')`.")
