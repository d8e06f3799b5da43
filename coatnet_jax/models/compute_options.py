"""How a model is computed: choices without effect on variables and predictions.

A checkpoint does not have them, so that a model that was trained on one machine
is computed on another in the way that suits that one.
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
    attention: implementation of relative attention, one of `IMPLEMENTATIONS`.
    batch_norm_group_size: number of examples that BatchNorm takes statistics of
      in training; 0 for the whole batch. The only one that changes training.
    remat: policy of rematerialisation, one of `REMAT_POLICIES`.
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
