"""What each pixel adds to a class's logit: integrated gradients.

arXiv 1703.01365: the gradient, averaged over the way from a baseline picture to
the picture, times the difference. All pixels' parts add up to the difference of
the logits, as exactly as the average is taken. The baseline is not to be 0, the
data's mean colour: a norm of nothing makes something of the first trace of a
picture, and no average gets hold of that.
"""

from typing import Any

import jax
import jax.numpy as jnp

from coatnet_jax.explanation.interception import make_plain
from coatnet_jax.models.image_model import ImageModel


def compute_integrated_gradients(
  model: ImageModel,
  variables: Any,
  image: jax.Array,
  baseline: jax.Array,
  class_index: jax.Array,
  *,
  num_steps: int,
) -> tuple[jax.Array, jax.Array]:
  """Computes integrated gradients, from a baseline to a picture.

  Args:
    model: network with logits, from `create_model`.
    variables: {'params', 'batch_stats'} of the model.
    image: [H, W, 3] float32, normalised.
    baseline: picture that shows nothing, black, say, [H, W, 3] float32,
      normalised.
    class_index: class to explain, scalar int32.
    num_steps: number of gradients that are averaged, in the middles of as many
      equal parts of the way.

  Returns:
    What each value adds, [H, W, 3] float32; and the difference of the logits
    of the picture and of the baseline, scalar float32.
  """
  model = make_plain(model)

  def compute_logit(x):
    return model.apply(variables, x[None], train=False)[0, class_index]

  def add_gradient(total, place):
    x = baseline + place * (image - baseline)
    return total + jax.grad(compute_logit)(x), None

  places = (jnp.arange(num_steps) + 0.5) / num_steps
  total, _ = jax.lax.scan(add_gradient, jnp.zeros(image.shape), places)
  difference = compute_logit(image) - compute_logit(baseline)
  return total / num_steps * (image - baseline), difference
