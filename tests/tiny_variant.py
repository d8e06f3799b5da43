"""A variant that compiles quickly: a block of each kind."""

from coatnet_jax.models import variants

TINY = variants.Variant(
  stem=variants.StemOptions(widths=(8, 8)),
  stages=(
    variants.Stage((variants.Blocks('mbconv', 1, 16),), 1),
    variants.Stage((variants.Blocks('transformer', 1, 32),)),
  ),
  kernel_init='lecun_normal',
)
