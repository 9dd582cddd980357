"""`load_from_checkpoint`: from a file to a built module or data module."""

from __future__ import annotations

import csv
import inspect
from pathlib import Path
from typing import IO, Any

import torch

from fulmen.core.migration import in_todays_form
from fulmen.utilities.rank_zero import rank_zero_warn


def read_checkpoint(path: str | Path | IO[bytes], map_location: Any, weights_only: bool | None) -> dict[str, Any]:
    """Reads a file from a path, a URL or an open file."""
    from fulmen.plugins.io import loading, remote
    from fulmen.utilities.files import is_remote

    if not isinstance(path, (str, Path)):
        options: dict[str, Any] = {} if weights_only is None else {"weights_only": weights_only}
        opened: dict[str, Any] = torch.load(path, map_location=map_location, **options)
        return opened
    if is_remote(str(path)):
        distant: dict[str, Any] = remote.load(str(path), map_location, weights_only)
        return distant
    # weights are copied into the module, so that views of the file are enough
    local: dict[str, Any] = loading.load(str(path).removeprefix("file://"), map_location, weights_only)
    return local


def load_hparams_from_yaml(config_yaml: str | Path, use_omegaconf: bool = True) -> dict[str, Any]:
    """Hyperparameters from a YAML file; empty if there is none."""
    import yaml

    path = Path(config_yaml)
    if not path.exists():
        rank_zero_warn(f"Missing hparams file: {path}.", category=RuntimeWarning)
        return {}
    with path.open() as file:
        loaded = yaml.full_load(file)
    return loaded or {}


def load_hparams_from_tags_csv(tags_csv: str | Path) -> dict[str, Any]:
    """Hyperparameters from a CSV file with the columns key and value."""
    import ast

    path = Path(tags_csv)
    if not path.exists():
        rank_zero_warn(f"Missing hparams file: {path}.", category=RuntimeWarning)
        return {}
    with path.open() as file:
        out = {}
        for row in list(csv.reader(file))[1:]:
            try:
                out[row[0]] = ast.literal_eval(row[1])
            except (ValueError, SyntaxError):
                out[row[0]] = row[1]
        return out


def save_hparams_to_yaml(config_yaml: str | Path, hparams: Any, use_omegaconf: bool = True) -> None:
    """Writes hyperparameters to a YAML file; values YAML cannot hold become their names."""
    import yaml

    plain = {}
    for key, value in dict(hparams).items():
        try:
            yaml.dump(value)
            plain[key] = value
        except Exception:
            plain[key] = type(value).__name__
    with Path(config_yaml).open("w") as file:
        yaml.dump(plain, file)


def _arguments(cls: type, checkpoint: dict[str, Any], prefix: str, overrides: dict[str, Any]) -> dict[str, Any]:
    values = checkpoint.get(f"{prefix}hyper_parameters") or {}
    name = checkpoint.get(f"{prefix}hparams_name")
    given: dict[str, Any] = dict(values)
    parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]  # looked at, not called
    if name and name != "kwargs" and name in parameters:
        from fulmen.utilities.parsing import AttributeDict

        given = {name: AttributeDict(given)}
    given.update(overrides)
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        given = {k: v for k, v in given.items() if k in parameters}
    return given


def load_module(
    cls: type,
    path: Any,
    map_location: Any,
    hparams_file: Any,
    strict: bool | None,
    weights_only: bool | None,
    overrides: dict[str, Any],
) -> Any:
    """See `LightningModule.load_from_checkpoint`."""
    checkpoint = in_todays_form(read_checkpoint(path, map_location, weights_only), path)
    _replace_hparams(checkpoint, hparams_file)
    module = cls(**_arguments(cls, checkpoint, "", overrides))
    if strict is not None and module._strict_loading is not None and strict != module._strict_loading:
        raise ValueError(
            f"load_from_checkpoint(strict={strict}) conflicts with `{cls.__name__}.strict_loading={module._strict_loading}`. "
            "Set the same value."
        )
    module.configure_model()
    module.on_load_checkpoint(checkpoint)
    strict = module.strict_loading if strict is None else strict
    keys = module.load_state_dict(checkpoint["state_dict"], strict=strict)
    if not strict:
        for found, where in (
            (keys.missing_keys, "in the model state dict but not in the checkpoint"),
            (keys.unexpected_keys, "not in the model state dict but in the checkpoint"),
        ):
            if found:
                rank_zero_warn(f"Found keys that are {where}: {found}")
    tensors = [v for v in checkpoint["state_dict"].values() if isinstance(v, torch.Tensor)]
    return module.to(tensors[0].device) if tensors else module


def load_datamodule(
    cls: type, path: Any, map_location: Any, hparams_file: Any, weights_only: bool | None, overrides: dict[str, Any]
) -> Any:
    """See `LightningDataModule.load_from_checkpoint`."""
    checkpoint = in_todays_form(read_checkpoint(path, map_location, weights_only), path)
    _replace_hparams(checkpoint, hparams_file, "datamodule_")
    made = cls(**_arguments(cls, checkpoint, "datamodule_", overrides))
    if cls.__qualname__ in checkpoint:
        made.load_state_dict(checkpoint[cls.__qualname__])
    return made


def _replace_hparams(checkpoint: dict[str, Any], hparams_file: Any, prefix: str = "") -> None:
    if hparams_file is None:
        return
    ending = str(hparams_file).rsplit(".", 1)[-1].lower()
    if ending == "csv":
        values = load_hparams_from_tags_csv(hparams_file)
    elif ending in ("yml", "yaml"):
        values = load_hparams_from_yaml(hparams_file)
    else:
        raise ValueError(f"hparams_file: expected .csv, .yml or .yaml, received {hparams_file}. Convert the file.")
    checkpoint[f"{prefix}hyper_parameters"] = values
