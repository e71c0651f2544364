"""Loaders of batches (images, labels), each read once, to its end, into memory.

A loader that shuffles a whole data set is read in the data set's order, so that a seed gives the same splits each time
and a run can be resumed. Random transforms are frozen by the reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler

from metanas.errors import DataError

MOST_BYTES = 2**34


def loaders_of(source: object) -> dict[str, DataLoader[Any]] | None:
    """The loaders by the part that they bring; None where `source` holds none.

    >>> loader = DataLoader([(torch.zeros(1, 2, 2), 0)])
    >>> list(loaders_of(loader)), list(loaders_of((loader, loader))), loaders_of("digits")
    (['train'], ['train', 'test'], None)
    """
    if isinstance(source, DataLoader):
        return {"train": source}
    if isinstance(source, tuple | list):
        named: Mapping[Any, Any] = dict(zip(("train", "test"), source, strict=False)) if len(source) == 2 else {}
    else:
        named = source if isinstance(source, Mapping) else {}
    if not any(isinstance(value, DataLoader) for value in named.values()):
        return None
    others = [f"{key}: {type(value).__name__}" for key, value in named.items() if not isinstance(value, DataLoader)]
    if others:
        raise DataError(f"where one split is a DataLoader all must be, got {', '.join(others)}")
    return {str(key): value for key, value in named.items()}


def read_loader(part: str, loader: DataLoader[Any]) -> tuple[Tensor, Tensor]:
    """All images and labels. Raises DataError for batches that are not (images, labels) of one shape."""
    images: list[Tensor] = []
    labels: list[Tensor] = []
    size = 0
    with torch.random.fork_rng(devices=[]):  # an iterator draws a seed for its workers
        for i, batch in enumerate(_in_order(loader)):
            if not isinstance(batch, tuple | list) or len(batch) != 2:
                raise DataError(f"batch {i} of the {part} loader must be (images, labels), got {_kind(batch)}")
            x, y = (value if isinstance(value, Tensor) else _refuse(part, i, value) for value in batch)
            if y.ndim == 0:  # a loader without batches gives one example at a time
                x, y = x[None], y[None]
            if images and (x.shape[1:], x.dtype, y.shape[1:]) != (
                images[0].shape[1:],
                images[0].dtype,
                labels[0].shape[1:],
            ):
                raise DataError(
                    f"batches of the {part} loader must have one shape and type, got {tuple(images[0].shape[1:])} and, "
                    f"in batch {i}, {tuple(x.shape[1:])}: resize"
                )
            # Copied: a loader may use the memory of a batch again.
            images.append(x.detach().cpu().clone())
            labels.append(y.detach().cpu().clone())
            size += x.nbytes
            if size > MOST_BYTES:
                raise DataError(
                    f"the {part} loader gives more than {MOST_BYTES >> 30} GiB: it must end, and fit memory"
                )
    if not images:
        raise DataError(f"the {part} loader is empty (0 batches): at least one image of each class is needed")
    return torch.cat(images), torch.cat(labels)


def _in_order(loader: DataLoader[Any]) -> DataLoader[Any]:
    sampler = loader.sampler
    whole = isinstance(sampler, RandomSampler) and not sampler.replacement and loader.batch_size is not None
    if not whole or len(sampler) != len(loader.dataset):  # type: ignore[arg-type]  # a sampler's data set has a length
        return loader
    return DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
    )


def _refuse(part: str, i: int, value: object) -> Tensor:
    raise DataError(f"batch {i} of the {part} loader must hold tensors, got {_kind(value)}")


def _kind(value: object) -> str:
    return f"{len(value)} values" if isinstance(value, tuple | list) else type(value).__name__
