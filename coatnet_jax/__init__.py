"""CoAtNet in JAX and Flax.

    model = coatnet_jax.create_model('coatnet_0', num_classes=1000)
    variables = model.init(jax.random.key(0), images, train=False)
    logits = model.apply(variables, images, train=False)

with normalised images [B, H, W, 3].
"""

from etils import epy

# When they are asked for: processes that only read images need no JAX, and
# start in half the time without it.
with epy.lazy_api_imports(globals()):
  from coatnet_jax.models.coatnet import CoAtNet
  from coatnet_jax.models.factory import create_model
  from coatnet_jax.models.variants import list_variants
  from coatnet_jax.ops.relative_attention import relative_attention
  from coatnet_jax.weights.loading import load_weights

__all__ = [
  'CoAtNet',
  'create_model',
  'list_variants',
  'load_weights',
  'relative_attention',
]
