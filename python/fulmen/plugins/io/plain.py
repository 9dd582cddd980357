"""What a checkpoint may hold: tensors and plain data, so that it loads without running code.

The rule is the loader's: an object may be saved if ``torch.load(weights_only=True)`` would make it again in this process,
which includes everything that was registered by ``torch.serialization.add_safe_globals``. Hyperparameters are an exception by
default, since they hold whatever a constructor takes: there an object is saved by pickle, with a warning. See
``docs/decisions/0007-checkpoint-contents.md``.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal, get_args

import torch

from fulmen import errors
from fulmen.utilities.rank_zero import rank_zero_warn

Objects = Literal["hyperparameters", "never", "always"]

#: keys of a checkpoint under which objects are saved by default
_HYPERPARAMETERS: Final = re.compile(r"checkpoint\['(?:datamodule_)?(?:hyper_parameters|hparams_type|hparams_name)'\]")


def check_objects(value: Any) -> Objects:
    """The option ``objects``, checked.

    Raises:
        ValueError: none of its values.
    """
    if value not in get_args(Objects):
        raise errors.value_error(
            "CheckpointIO(objects)",
            f"one of {list(get_args(Objects))}",
            value,
            '"hyperparameters" saves objects there and nowhere else, "never" and "always" do as they say',
        )
    checked: Objects = value
    return checked


def safe_globals() -> dict[str, Any]:
    """Every class and function that loading plain data may use, by its full name."""
    # torch's own table has no public name
    from torch._weights_only_unpickler import _get_allowed_globals

    found: dict[str, Any] = dict(_get_allowed_globals())
    for entry in torch.serialization.get_safe_globals():
        if isinstance(entry, tuple):
            found[entry[1]] = entry[0]
        else:
            found[f"{entry.__module__}.{getattr(entry, '__qualname__', entry.__name__)}"] = entry
    return found


class Judge:
    """Is asked, while a checkpoint is encoded, about every class and function that its pickle would name.

    Args:
        objects: where objects other than plain data may be.
    """

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.safe = safe_globals()
        self.warned: dict[str, str] = {}

    def __call__(self, module: str, name: str, path: str, kind: str) -> bool:
        """True: fine everywhere. False: fine at this place.

        Args:
            module: where the class or function is.
            name: its qualified name.
            path: the place in the checkpoint, such as ``checkpoint['callbacks']['Mine']``.
            kind: the type of what is named.

        Raises:
            TypeError: it must not be saved here.
        """
        full = f"{module}.{name}"
        if full in self.safe or self.objects == "always":
            return True
        if self.objects == "hyperparameters" and _HYPERPARAMETERS.match(path):
            self.warned.setdefault(path, full)
            return False
        raise TypeError(
            f"{path} is a `{full}`, and a checkpoint holds tensors and plain data (numbers, texts, lists, dicts), so that "
            "it loads without running code. Save what the object is made of, or leave it out; or, if loading may build such "
            f"objects, register the class by torch.serialization.add_safe_globals([{name}]); or allow every object by "
            'Trainer(plugins=[fulmen.plugins.io.NativeCheckpointIO(objects="always")]) and load with weights_only=False.'
        )

    def warn(self) -> None:
        """Says which hyperparameters will not load by default; once for each."""
        if self.warned:
            listed = ", ".join(f"{path.removeprefix('checkpoint')} ({full})" for path, full in self.warned.items())
            _warn_once(listed)


_said: set[str] = set()


def _warn_once(listed: str) -> None:
    if listed in _said:
        return
    _said.add(listed)
    rank_zero_warn(
        f"These hyperparameters are no plain data: {listed}. The checkpoint holds them as pickled objects, and loads only with "
        "weights_only=False, or after torch.serialization.add_safe_globals([...]). Leave them out by "
        "`self.save_hyperparameters(ignore=[...])` if they can be built anew."
    )
