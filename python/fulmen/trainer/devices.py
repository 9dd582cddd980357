import torch

from fulmen.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision
from fulmen.strategies.single_device import SingleDeviceStrategy


class Devices:
    @classmethod
    def resolve(cls, *, strategy, precision, **k):
        d = cls()
        p = str(precision or "32-true")
        d.strategy = strategy if not isinstance(strategy, str) else SingleDeviceStrategy(device=torch.device("cpu"))
        d.strategy.precision_plugin = {"32-true": Precision, "64-true": DoublePrecision}.get(
            p, lambda: HalfPrecision(p) if "true" in p else MixedPrecision("bf16-mixed", "cpu")
        )()
        d.is_distributed = False
        d.device_ids = [0]
        d.cluster_environment = None
        return d
