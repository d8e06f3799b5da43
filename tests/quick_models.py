"""Models that are compiled or traced quickly."""

from typing import Any

import flax.linen as nn
import jax

from coatnet_jax.models import variants
from coatnet_jax.models.factory import create_model

_STEM = variants.StemOptions(widths=(8, 8))

# A block of each kind.
TINY = variants.Variant(
  stem=_STEM,
  stages=(
    variants.Stage((variants.BlockGroup('mbconv', 1, 16),), 1),
    variants.Stage((variants.BlockGroup('transformer', 1, 32),)),
  ),
  kernel_init='lecun_normal',
)

# With arrays that fsdp shards, heads for two devices, and blocks to scan.
SHARDABLE = variants.Variant(
  stem=_STEM,
  stages=(
    variants.Stage((variants.BlockGroup('mbconv', 1, 64),)),
    variants.Stage((variants.BlockGroup('transformer', 3, 64),), 1),
  ),
  kernel_init='lecun_normal',
)

# Wide enough for a TPU's registers, of few enough blocks to compile soon.
TPU_TINY = variants.Variant(
  stem=variants.StemOptions(widths=(16,)),
  stages=(
    variants.Stage((variants.BlockGroup('mbconv', 1, 32),)),
    variants.Stage((variants.BlockGroup('transformer', 1, 128),)),
  ),
)


def add_variant(name: str, variant: variants.Variant) -> None:
  """Makes a variant known for the rest of this process.

  For programs of their own. Inside of pytest, `mock.patch.dict` takes the
  variant away again.
  """
  variants.VARIANTS[name] = variant


def apply_in_training(
  model: nn.Module, variables: Any, images: jax.Array, key: jax.Array
) -> tuple[jax.Array, dict[str, Any]]:
  """Returns logits and new statistics; the key is that of what is dropped."""
  return model.apply(
    variables,
    images,
    train=True,
    mutable=['batch_stats'],
    rngs={'dropout': key},
  )


def create_traced_model(name: str) -> nn.Module:
  """Returns a variant's model for the sizes of its arrays alone.

  Attention is its definition, which is traced the soonest: no size depends on
  how it is computed.
  """
  if name == 'cnn_stem_vit':
    return create_model(name)
  return create_model(name, attention='reference')
