"""Variants that compile quickly."""

from coatnet_jax.models import variants

_STEM = variants.StemOptions(widths=(8, 8))

# A block of each kind.
TINY = variants.Variant(
  stem=_STEM,
  stages=(
    variants.Stage((variants.Blocks('mbconv', 1, 16),), 1),
    variants.Stage((variants.Blocks('transformer', 1, 32),)),
  ),
  kernel_init='lecun_normal',
)

# With arrays that fsdp shards, heads for two devices, and blocks to scan.
SHARDABLE = variants.Variant(
  stem=_STEM,
  stages=(
    variants.Stage((variants.Blocks('mbconv', 1, 64),)),
    variants.Stage((variants.Blocks('transformer', 3, 64),), 1),
  ),
  kernel_init='lecun_normal',
)
