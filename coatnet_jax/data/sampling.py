"""Balanced sampling: each class as often as any other, in an order by seed."""

import threading
from collections.abc import Sequence

import grain
import numpy as np

from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.errors import UserError


class BalancedIndices(grain.MapDataset):
  """Examples' numbers without end, in which classes are equally often.

  Every round has one example of each class that there is, in an order of its
  own. Of a class all examples come up before one does so again, each time in
  another order. What is at a place depends on labels, seed and place alone.
  """

  def __init__(self, labels: Sequence[int] | np.ndarray, seed: int):
    """Looks which examples a class has.

    Args:
      labels: class of each example, [N] integers; examples below 0 are left
        out.
      seed: seed of all orders, 0 .. 2**32 - 1.

    Raises:
      ValueError: no example is left.
    """
    super().__init__()
    labels = np.asarray(labels)
    if not (labels >= 0).any():
      raise ValueError('There is no example with a label.')
    order = np.argsort(labels, kind='stable')
    order = order[labels[order] >= 0]
    _, starts = np.unique(labels[order], return_index=True)
    self._members = np.split(order, starts[1:])
    self._seed = seed
    self._orders: dict[int, tuple[int, np.ndarray]] = {}
    self._lock = threading.Lock()

  def __getstate__(self):
    """Leaves out what another process makes for itself."""
    return {
      name: value
      for name, value in self.__dict__.items()
      if name not in ('_lock', '_orders')
    }

  def __setstate__(self, state):
    """Takes what `__getstate__` gave."""
    self.__dict__.update(state)
    self._orders, self._lock = {}, threading.Lock()

  def __len__(self) -> int:
    """As many as grain's endless sequences have."""
    return np.iinfo(np.int64).max

  def __getitem__(self, index):
    """Returns the example's number at a place, or a slice of the sequence."""
    if isinstance(index, slice):
      return self.slice(index)
    turn, place = divmod(index, len(self._members))
    number = int(self._order(-1, turn, len(self._members))[place])
    members = self._members[number]
    epoch, place = divmod(turn, len(members))
    return int(members[self._order(number, epoch, len(members))[place]])

  def _order(self, number: int, turn: int, size: int) -> np.ndarray:
    """Returns the order of a class in an epoch; of the classes where it is -1.

    The last one of each is kept: places are mostly asked for one after the
    other.
    """
    with self._lock:
      kept = self._orders.get(number)
    if kept is None or kept[0] != turn:
      rng = np.random.default_rng((self._seed, number + 1, turn))
      kept = turn, rng.permutation(size)
      with self._lock:
        self._orders[number] = kept
    return kept[1]


def find_class_counts(source: ImageSource) -> np.ndarray:
  """Returns how many examples each class has, [K] integers.

  Args:
    source: images, of which labels are read alone.

  Raises:
    UserError: a label is not one of the classes.
  """
  labels = source.find_labels()
  if source.has_several_labels:
    return labels.sum(0, dtype=np.int64)
  if labels.size and labels.max() >= source.num_classes:
    index = int(labels.argmax())
    raise UserError(
      f'The label of {source.describe(index)} is {labels[index]}; it must be in'
      f' 0 .. {source.num_classes - 1}, as there are {source.num_classes}'
      ' classes.'
    )
  return np.bincount(labels[labels >= 0], minlength=source.num_classes)
