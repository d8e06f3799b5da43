"""The sizes that figures of attention are made for, and bounds of its time."""

import dataclasses

import numpy as np

from coatnet_jax.tpu_compiler.topologies import Chip

DIRECTIONS = ('forward', 'forward+backward')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """The size of an attention."""

  grid: tuple[int, int]
  batch: int
  heads: int
  head_dim: int = 32
  dtype: str = 'bfloat16'

  @property
  def num_tokens(self) -> int:
    """Returns N."""
    return self.grid[0] * self.grid[1]

  def count_products(self, direction: str) -> int:
    """Returns the matrix products of a head: 2, and 5 backward."""
    return 2 if direction == 'forward' else 7

  def count_arrays(self, direction: str) -> int:
    """Returns how many arrays of q's size must be read or written.

    Forward q, k, v and the result; backward these and the result's gradient
    are read, and three gradients written.
    """
    return 4 if direction == 'forward' else 12

  def compute_product_floor(self, chip: Chip, direction: str) -> int:
    """Returns the cycles of the matrix units, all of them always busy.

    In each product the head is either what is summed over or the width of the
    result, and counts as padded to the size of a matrix unit.
    """
    head_dim = -(-self.head_dim // chip.mxu_size) * chip.mxu_size
    multiply_adds = self.batch * self.heads * self.num_tokens**2 * head_dim
    products = self.count_products(direction)
    return round(products * multiply_adds / chip.multiply_adds_per_cycle)

  def compute_hbm_floor(self, chip: Chip, direction: str) -> int:
    """Returns the cycles in which the arrays pass through HBM's bandwidth."""
    num_bytes = (
      self.count_arrays(direction)
      * (self.batch * self.num_tokens * self.heads * self.head_dim)
      * np.dtype(self.dtype).itemsize
    )
    return round(num_bytes / chip.hbm_bytes_per_second * chip.clock_hz)


# CoAtNet-0's two stages at 224 px, its third at 384 and 512 px, and at 1,024.
CASES = (
  Case(grid=(14, 14), batch=128, heads=12),
  Case(grid=(7, 7), batch=128, heads=24),
  Case(grid=(24, 24), batch=64, heads=12),
  Case(grid=(32, 32), batch=32, heads=12),
  Case(grid=(64, 64), batch=4, heads=12),
)
