"""What the parity tests do not say of gathering: why a loader is not gathered, what can be told apart, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    StackDataset,
    Subset,
    TensorDataset,
    default_collate,
)

from fulmen.prefetch import choose
from fulmen.prefetch.samplers import EVERYTHING, batches_ahead

X = torch.arange(60.0).view(20, 3)
WIDE = torch.zeros(20, 20_000)


def why(dataset, **options):
    source = choose(DataLoader(dataset, **{"batch_size": 4, **options}))
    assert source.kind != "gather"
    return source.why


def test_reasons_against():
    assert "torch's default" in why(TensorDataset(X), collate_fn=lambda samples: default_collate(samples))
    assert "automatic batching is off" in why(TensorDataset(X), batch_size=None)
    assert "requires a gradient" in why(TensorDataset(X.clone().requires_grad_()))
    assert "class Parameter" in why(TensorDataset(torch.nn.Parameter(X)))
    assert "no rows" in why(TensorDataset(X[:0]), sampler=[])
    assert "not contiguous" in why(TensorDataset(X.t()))
    assert "not contiguous" in why(X.numpy()[::-1])
    assert "not contiguous" in why(torch.zeros(1, 3).expand(20, 3))
    assert "not dense" in why(TensorDataset(X.to_sparse()))
    assert "on meta" in why(TensorDataset(X.to("meta")))
    assert "torch has no type" in why(np.array(["a", "b"]))
    assert "torch has no type" in why(np.zeros(4, dtype=[("a", "f4")]))
    assert "made by its own code" in why([1, 2, 3])
    assert "made by its own code" in why(StackDataset(X, list(range(20))))
    assert "no ints" in why(Subset(TensorDataset(X), ["a", "b"]))


def test_an_instance_with_its_own_getitem_is_left_alone():
    dataset = TensorDataset(X)
    dataset.__getitems__ = lambda indices: [(X[0],)] * len(indices)
    assert "made by its own code" in why(dataset)


def test_a_changed_collate_function_is_used(monkeypatch):
    from torch.utils.data._utils import collate

    source = choose(DataLoader(TensorDataset(X), batch_size=4))
    monkeypatch.setitem(collate.default_collate_fn_map, torch.Tensor, lambda batch, *, collate_fn_map=None: "mine")
    assert "torch's default" in why(TensorDataset(X))
    # a source that was made before looks again
    assert next(source.epoch()) == ["mine"]


def test_a_dataset_may_change_between_passes():
    dataset = Subset(TensorDataset(X), [0, 1, 2, 3])
    source = choose(DataLoader(dataset, batch_size=2))
    assert [batch[0][:, 0].tolist() for batch in source.epoch()] == [[0, 3], [6, 9]]
    dataset.indices = [5, 4]
    assert [batch[0][:, 0].tolist() for batch in source.epoch()] == [[15, 12]]
    dataset.indices.reverse()
    assert [batch[0][:, 0].tolist() for batch in source.epoch()] == [[12, 15]]
    dataset.dataset = TensorDataset(X + 100)
    assert [batch[0][:, 0].tolist() for batch in source.epoch()] == [[112, 115]]
    dataset.dataset = TensorDataset(X.double(), X)
    batch = next(source.epoch())
    assert (len(batch), batch[0].dtype) == (2, torch.float64)


@pytest.mark.parametrize("x", [X, WIDE], ids=["small", "wide"])
@pytest.mark.parametrize("bad", [[0, 99], [0, -99], [0, 1.5], [0, None]], ids=str)
def test_errors_are_those_of_the_stock_loader(x, bad):
    def raised(start):
        iterator = start()
        next(iterator)
        with pytest.raises(Exception) as found:
            next(iterator)
        return type(found.value), str(found.value)

    loader = DataLoader(TensorDataset(x), batch_sampler=[[0, 1], bad])
    assert raised(choose(loader).epoch) == raised(loader.__iter__)


def test_large_batches_cannot_be_enlarged():
    small = next(choose(DataLoader(TensorDataset(X), batch_size=4)).epoch())[0]
    assert small.resize_(100, 3).shape == (100, 3)
    wide = next(choose(DataLoader(TensorDataset(WIDE), batch_size=4)).epoch())[0]
    with pytest.raises(RuntimeError, match="resiz"):
        wide.resize_(100, 20_000)
    assert wide.resize_(2, 10_000).shape == (2, 10_000)


def test_batches_work_like_others():
    batch = next(choose(DataLoader(TensorDataset(WIDE.clone()), batch_size=4)).epoch())[0]
    batch.add_(1)
    assert torch.equal(batch.clone().share_memory_(), batch)
    weight = torch.ones(20_000, 1, requires_grad=True)
    (batch @ weight).sum().backward()
    assert torch.equal(weight.grad, torch.full((20_000, 1), 4.0))
    with torch.inference_mode():
        assert next(choose(DataLoader(TensorDataset(X), batch_size=4)).epoch())[0].is_inference()
        assert next(choose(DataLoader(TensorDataset(WIDE), batch_size=4)).epoch())[0].is_inference()


def ahead(**options):
    return batches_ahead(DataLoader(TensorDataset(X), **{"batch_size": 3, **options}))


def test_how_far_samplers_may_be_asked():
    own = torch.Generator()
    assert ahead() == ahead(shuffle=True) == EVERYTHING
    # the user's generator is drawn from once more when the sampler is asked beyond its end
    assert ahead(shuffle=True, generator=own) == 6
    assert ahead(sampler=RandomSampler(X, replacement=True, generator=own)) == 0
    assert ahead(sampler=RandomSampler(X, num_samples=50, generator=own)) == 0
    assert ahead(sampler=list(range(4))) == 0

    class Other(RandomSampler):
        pass

    assert ahead(sampler=Other(X)) == 0
    assert ahead(batch_size=1, batch_sampler=BatchSampler(RandomSampler(X), 4, False)) == EVERYTHING
    assert ahead(batch_size=1, batch_sampler=[[1, 2]]) == 0


def test_modes():
    loader = DataLoader(TensorDataset(WIDE), batch_size=4)
    assert choose(loader, "off").kind == "plain" and "switched off" in choose(loader, "off").why
    assert choose(loader, 3)._depth == 3
    assert "gather source of DataLoader" in repr(choose(loader))
