"""What a resume needs to know of a loader: states of random generators, and the place in a pass.

A place is `first`, the states of all generators just before the sampler was asked for its first index, and `taken`, the
number of batches that the consumer has had. Going there means to run the sampler from `first` for `taken` batches; no
sample is loaded for it. Afterwards all generators are set to `now`, their states when the place was noted.
"""

from __future__ import annotations

import base64
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fulmen import errors

VERSION = 1


# ---- global generators -----------------------------------------------------------------------------------------------


def global_generators() -> dict[str, Any]:
    """The states of the generators that everybody shares, as plain data."""
    return plain_globals(raw_global_generators())


def raw_global_generators() -> dict[str, Any]:
    """The states of torch's (CPU, CUDA if it is in use), Python's, and numpy's generators if numpy is loaded.

    As the generators give them, which takes a fifth of the time that plain data takes; `same_states` compares them.
    """
    states: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate()}
    if "numpy" in sys.modules:
        states["numpy"] = sys.modules["numpy"].random.get_state(legacy=False)
    cuda: Any = torch.cuda
    if cuda.is_initialized():
        states["cuda"] = cuda.get_rng_state_all()
    return states


def set_global_generators(states: dict[str, Any]) -> None:
    """Bring them back to what `global_generators` gave; those without a state stay as they are."""
    if "torch" in states:
        torch.set_rng_state(_unpack(states["torch"]))
    if "python" in states:
        random.setstate(_from_python_state(states["python"]))
    if "numpy" in states:
        import numpy as np

        np.random.set_state(_from_plain(states["numpy"]))
    if "cuda" in states and torch.cuda.is_available() and len(states["cuda"]) <= torch.cuda.device_count():
        for device, state in enumerate(states["cuda"]):
            torch.cuda.set_rng_state(_unpack(state), device)


class Snapshot:
    """The states of all generators, the global ones and those given, at one moment of this run."""

    def __init__(self, own: list[Any]) -> None:
        self._own = own
        self._global = raw_global_generators()
        self._of_own = raw_states(own)

    def is_now(self) -> bool:
        """Whether nothing was drawn since."""
        return same_states(self._global, raw_global_generators()) and same_states(self._of_own, raw_states(self._own))

    def restore(self) -> None:
        """Whatever was drawn since has not been drawn."""
        before = self._global
        for generator, state in zip(self._own, self._of_own, strict=True):
            _set_raw_state(generator, state)
        torch.set_rng_state(before["torch"])
        random.setstate(before["python"])
        if "numpy" in before:
            sys.modules["numpy"].random.set_state(before["numpy"])
        if "cuda" in before:
            torch.cuda.set_rng_state_all(before["cuda"])


@contextmanager
def untouched(loader: Any) -> Iterator[None]:
    """Whatever is drawn within, from global generators or those of a loader, has not been drawn afterwards."""
    before = Snapshot(own_generators(loader))
    try:
        yield
    finally:
        before.restore()


# ---- the loader's own generators -------------------------------------------------------------------------------------


def own_generators(loader: Any) -> list[Any]:
    """The random generators that loader, samplers, datasets and collate function hold, each once, in a fixed order."""
    found: list[Any] = []
    seen: set[int] = set()
    for owner in owners(loader):
        for value in list(getattr(owner, "__dict__", {}).values()):
            if _is_generator(value) and id(value) not in seen and value is not torch.default_generator:
                seen.add(id(value))
                found.append(value)
    return found


def generator_states(generators: list[Any]) -> list[Any]:
    """Their states as plain data."""
    return plain_states(raw_states(generators))


def raw_states(generators: list[Any]) -> list[Any]:
    """Their states as they give them."""
    return [_raw_state(generator) for generator in generators]


def plain_states(raw: list[Any]) -> list[Any]:
    """What `raw_states` gave, as plain data."""
    return [_plain_state(state) for state in raw]


def set_generator_states(generators: list[Any], states: list[Any]) -> None:
    """Bring them back.

    Raises:
        RuntimeError: the loader has other generators than the one whose states these are.
    """
    if len(generators) != len(states):
        raise errors.runtime_error(
            f"The state in the checkpoint is of a loader with {len(states)} random generators, this one has"
            f" {len(generators)}",
            "Resume with the loader that was used when saving",
        )
    for generator, state in zip(generators, states, strict=True):
        _set_generator_state(generator, state)


def owners(loader: Any) -> Iterator[Any]:
    """Loader, samplers within samplers, datasets within datasets."""
    queue, seen = [loader], set()
    while queue:
        owner = queue.pop(0)
        if owner is None or id(owner) in seen or isinstance(owner, Tensor):
            continue
        seen.add(id(owner))
        yield owner
        own = getattr(owner, "__dict__", {})
        for name in ("batch_sampler", "sampler", "_batch_sampler", "dataset", "datasets", "collate_fn", "transform"):
            value = own.get(name)
            if isinstance(value, (list, tuple)):
                queue.extend(value[:64])
            elif isinstance(value, dict):
                queue.extend(list(value.values())[:64])
            else:
                queue.append(value)


def _is_generator(value: Any) -> bool:
    if isinstance(value, (torch.Generator, random.Random)):
        return True
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, (numpy.random.Generator, numpy.random.RandomState))


def _raw_state(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    if hasattr(generator, "bit_generator"):
        return generator.bit_generator.state
    return generator.get_state(legacy=False)


def plain_globals(states: dict[str, Any]) -> dict[str, Any]:
    """What `raw_global_generators` gave, as plain data."""
    return {name: _plain_state(state) for name, state in states.items()}


def _plain_state(state: Any) -> Any:
    """A state as its generator gives it, as plain data: torch's are tensors, Python's tuples, numpy's dicts."""
    if isinstance(state, Tensor):
        return _pack(state)
    if isinstance(state, list):
        return [_pack(one) for one in state]
    return _python_state(state) if isinstance(state, tuple) else _to_plain(state)


def _set_generator_state(generator: Any, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        state = _unpack(state)
    elif isinstance(generator, random.Random):
        state = _from_python_state(state)
    else:
        state = _from_plain(state)
    _set_raw_state(generator, state)


def _set_raw_state(generator: Any, state: Any) -> None:
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif hasattr(generator, "bit_generator"):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)


def same_states(a: Any, b: Any) -> bool:
    """Whether two states are equal to the last bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same_states(a[key], b[key]) for key in a)
    if isinstance(a, tuple):
        # Python's, 625 numbers within
        return bool(a == b)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same_states, a, b))
    if hasattr(a, "tobytes"):
        return bool(a.tobytes() == b.tobytes())
    return bool(a == b)


def _pack(state: Tensor) -> str:
    """A tensor as text: a tree of such states can be compared, and read by whatever reads text."""
    return base64.b64encode(state.view(torch.uint8).numpy().tobytes()).decode()


def _unpack(text: str) -> Tensor:
    """Its bytes again."""
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)


# ---- plain data ------------------------------------------------------------------------------------------------------


def _python_state(state: Any) -> Any:
    """``random.getstate()`` with its 625 words as text, as a list of ints would be slow to save."""
    version, words, gauss = state
    return [version, _pack(torch.tensor(words, dtype=torch.int64).to(torch.uint32)), gauss]


def _from_python_state(state: Any) -> Any:
    version, words, gauss = state
    return version, tuple(_unpack(words).view(torch.uint32).tolist()), gauss


def _to_plain(value: Any) -> Any:
    """Arrays become text."""
    numpy = sys.modules["numpy"]
    if isinstance(value, dict):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, numpy.ndarray):
        return {"array": str(value.dtype), "values": base64.b64encode(value.tobytes()).decode()}
    return value.item() if isinstance(value, numpy.generic) else value


def _from_plain(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array", "values"}:
        return sys.modules["numpy"].frombuffer(base64.b64decode(value["values"]), value["array"]).copy()
    return {key: _from_plain(item) for key, item in value.items()}


# ---- the place in a pass ---------------------------------------------------------------------------------------------


class _Note:
    """States of all generators at one moment. They become plain data when that is asked for, which few passes are."""

    def __init__(self, raw_global: dict[str, Any], raw_own: list[Any]) -> None:
        self._raw = (raw_global, raw_own)
        self._plain: dict[str, Any] | None = None

    @classmethod
    def of(cls, plain: dict[str, Any]) -> _Note:
        note = cls({}, [])
        note._plain = plain
        return note

    def plain(self) -> dict[str, Any]:
        if self._plain is None:
            raw_global, raw_own = self._raw
            self._plain = {"global": plain_globals(raw_global), "own": plain_states(raw_own)}
        return self._plain


class Place:
    """Where a consumer stands in the passes over one loader, and how a new pass gets there.

    A source notes the start of a pass (`begin`, before anything is drawn), the moment before the sampler's first index
    (`begin_sampler`), and counts `taken`.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self.taken = 0
        self._start: _Note | None = None
        self._first: _Note | None = None
        self._pending: dict[str, Any] | None = None
        self._target: dict[str, Any] | None = None

    @property
    def start(self) -> Any:
        """The note of the pass's start: the same object as long as the pass is the same."""
        return self._start

    @property
    def arriving(self) -> bool:
        """Whether the pass that began is one that is taken up, and `arrive` has to be called."""
        return self._target is not None

    def _note(self) -> _Note:
        return _Note(raw_global_generators(), raw_states(own_generators(self._loader)))

    def _set(self, note: dict[str, Any]) -> None:
        set_generator_states(own_generators(self._loader), note["own"])
        if note["global"] is not None:
            set_global_generators(note["global"])

    def begin(self) -> int:
        """A pass starts, nothing is drawn yet. How many batches are to be left out, for a pass that is taken up?

        All generators stand as at that pass's start then. Call `begin_sampler`, run the sampler, then `arrive`.
        """
        state, self._pending = self._pending, None
        self.taken = 0
        self._first = None
        if state is None:
            self._start = self._note()
            return 0
        if state["taken"] is None:
            self._set(state["now"])
            self._start = self._note()
            return 0
        self._start = _Note.of(state["start"])
        self._set(state["start"])
        self._target = state
        return int(state["taken"])

    def begin_sampler(self) -> None:
        """Just before the sampler is asked for its first index, in this pass or in the one that is taken up."""
        state = self._target
        if state is None:
            self._first = self._note()
        elif state["first"] is not None:
            self._first = _Note.of(state["first"])
            self._set(state["first"])

    def arrive(self) -> None:
        """The batches to be left out are left out: all generators go on from where they stood."""
        state, self._target = self._target, None
        assert state is not None
        self.taken = int(state["taken"])
        self._set(state["now"])

    def state(self) -> dict[str, Any]:
        """The place as plain data. Between passes ``taken`` is None."""
        if self._pending is not None:
            return self._pending
        return {
            "version": VERSION,
            "taken": None if self._start is None else self.taken,
            "start": None if self._start is None else self._start.plain(),
            "first": None if self._first is None else self._first.plain(),
            "now": self._note().plain(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The next `begin` goes to this place. Without global states in ``now``, the global generators stay as they are."""
        if state.get("version") != VERSION:
            raise errors.runtime_error(
                f"The state of a loader has version {state.get('version')!r}, this fulmen reads version {VERSION}",
                "Resume with the fulmen that wrote it",
            )
        self._pending = state
