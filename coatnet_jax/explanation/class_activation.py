"""Where a class is seen, by the maps of a stage: Grad-CAM (arXiv 1610.02391).

Each channel of a stage's map weighs what the logit's gradient is on it, on
average over the positions; the channels' weighted sum, where it is positive,
speaks for the class.
"""

from typing import Any

import jax
import jax.numpy as jnp

from coatnet_jax.explanation.interception import make_plain, watch_stages
from coatnet_jax.models.image_model import ImageModel


def compute_grad_cam(
  model: ImageModel,
  variables: Any,
  images: jax.Array,
  classes: jax.Array,
  *,
  stage: str,
) -> jax.Array:
  """Computes Grad-CAM of a stage's output.

  Args:
    model: network with logits, from `create_model`.
    variables: {'params', 'batch_stats'} of the model.
    images: [B, H, W, 3] float32, normalised.
    classes: class to explain in each, [B] int32.
    stage: name of the stage, 's0' to 's4', one of `model.feature_info`.

  Returns:
    [B, h, w] float32, at least 0: on the grid of the stage's map. 0 everywhere
    where nothing in the map speaks for the class.
  """
  model = make_plain(model)

  def compute_logits(added, seen):
    def observe(name, x):
      if name == stage:
        seen.append(x)
        return added

    with watch_stages(observe):
      logits = model.apply(variables, images, train=False)
    return jnp.take_along_axis(logits, classes[:, None], axis=-1).sum()

  def compute_with_maps(added):
    seen = []
    total = compute_logits(added, seen)
    return total, seen[0]

  shape = jax.eval_shape(lambda: compute_with_maps(None)[1]).shape
  gradients, maps = jax.grad(compute_with_maps, has_aux=True)(jnp.zeros(shape))
  return weigh_channels(maps, gradients)


def weigh_channels(maps: jax.Array, gradients: jax.Array) -> jax.Array:
  """Returns the positive part of the channels' sum, weighed by gradients.

  >>> maps = jnp.array([[[[2.0, 1.0], [0.0, 3.0]]]])  # Two positions.
  >>> gradients = jnp.array([[[[1.0, 0.0], [3.0, -1.0]]]])
  >>> weigh_channels(maps, gradients).tolist()  # Weights 2 and -0.5.
  [[[3.5, 0.0]]]

  Args:
    maps: [B, h, w, C].
    gradients: gradient of the logit by each value, [B, h, w, C].

  Returns:
    [B, h, w].
  """
  weights = gradients.mean((1, 2), keepdims=True)  # [B, 1, 1, C]
  return jax.nn.relu((weights * maps).sum(-1))
