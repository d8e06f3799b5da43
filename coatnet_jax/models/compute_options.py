"""How a model is computed, which its variables and predictions don't depend on.

So a checkpoint does not say it: what one machine trained, another computes in
its own way.
"""

import dataclasses
from typing import Annotated

from coatnet_jax.models.block_sequence import REMAT_POLICIES
from coatnet_jax.ops.relative_attention import IMPLEMENTATIONS
from coatnet_jax.values import OneOf, Options, Range

Attention = Annotated[str, OneOf(IMPLEMENTATIONS)]
GroupSize = Annotated[int, Range(at_least=0, at_most=2**24)]
Remat = Annotated[str, OneOf(REMAT_POLICIES)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComputeOptions(Options):
  """Choices of computation; see `create_model`.

  Attributes:
    attention: how relative attention is computed, one of `IMPLEMENTATIONS`.
    batch_norm_group_size: number of examples that BatchNorm takes statistics of
      in training; 0 for the whole batch. The only one that changes training.
    remat: what the backward pass computes again, one of `REMAT_POLICIES`.
    scan_blocks: whether equal blocks that follow each other are one loop.
  """

  attention: Attention = 'auto'
  batch_norm_group_size: GroupSize = 0
  remat: Remat = 'none'
  scan_blocks: bool = False


COMPUTE_NAMES = tuple(f.name for f in dataclasses.fields(ComputeOptions))
# What may change when a run is resumed.
SAME_RESULT_NAMES = tuple(
  name for name in COMPUTE_NAMES if name != 'batch_norm_group_size'
)
