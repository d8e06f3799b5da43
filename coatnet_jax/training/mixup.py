"""MixUp (arXiv 1710.09412) and CutMix (arXiv 1905.04899), on the device.

Every example is mixed with the one before it in the global batch, the first
with the last. Batches are shuffled, so that any fixed partner is a random one;
this one costs least on a sharded batch: each device receives a single image,
where the batch in reverse order would move every image. In groups of examples
that lie on one device no image is moved. The result depends on the key, the
global batch and the groups alone, not on the mesh.

Weights, boxes and the choice between the two are drawn for each example, not
once for a batch: a step's loss then varies less from the draw.
"""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp

from coatnet_jax.values import Options, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixupOptions(Options, section='config.mixup'):
  """How training batches are mixed.

  Attributes:
    mixup_alpha: alpha of Beta(alpha, alpha), MixUp's weight; 0 switches
      MixUp off. The paper's ImageNet-1k recipe has 0.8.
    cutmix_alpha: alpha of CutMix, which the paper does not use.
    cutmix_probability: part of the examples that CutMix mixes, where both are
      on.
    group_size: number of neighbours in the batch that are mixed with each
      other; 0 for the whole batch.

  Raises:
    UserError: An alpha is negative, or the probability outside 0 .. 1.
  """

  mixup_alpha: Annotated[float, Range(at_least=0, at_most=1000)]
  cutmix_alpha: Annotated[float, Range(at_least=0, at_most=1000)]
  cutmix_probability: Annotated[float, Range(at_least=0, at_most=1)]
  group_size: Annotated[int, Range(at_least=0, at_most=2**31 - 1)] = 0


def apply_mixup(
  key: jax.Array,
  images: jax.Array,
  targets: jax.Array,
  *,
  options: MixupOptions,
) -> tuple[jax.Array, jax.Array]:
  """Returns images and targets, each mixed with its predecessor's.

  With both alphas at 0 the arguments are returned, and `key` is not used.

  Args:
    key: PRNG key of this step; the same on every process.
    images: [B, H, W, C] float, the global batch. Normalised or not: mixing is
      linear.
    targets: [B, K] float soft labels.
    options: choice of MixUp and CutMix, and their strengths.

  Returns:
    Images and targets with their shapes and dtypes.

  Raises:
    ValueError: Images or targets are integers, whose mixture would be cut off.
  """
  for name, array in {'images': images, 'targets': targets}.items():
    if not jnp.issubdtype(array.dtype, jnp.floating):
      raise ValueError(f'{name} are {array.dtype}; they must be floats.')
  if not options.mixup_alpha and not options.cutmix_alpha:
    return images, targets

  batch, height, width, _ = images.shape
  choice_key, weight_key, centre_key = jax.random.split(key, 3)
  is_cutmix = _draw_is_cutmix(choice_key, batch, options)
  alpha = jnp.where(is_cutmix, options.cutmix_alpha, options.mixup_alpha)
  weights = jax.random.beta(weight_key, alpha, alpha)
  keep = jnp.broadcast_to(weights[:, None, None], (batch, height, width))
  if options.cutmix_alpha:
    centres = jax.random.randint(
      centre_key, (batch, 2), 0, jnp.array([height, width])
    )
    boxes = compute_cutmix_boxes(weights, centres, height=height, width=width)
    outside = compute_outside_mask(boxes, height=height, width=width)
    keep = jnp.where(is_cutmix[:, None, None], outside, keep)
    # What is left after clipping, not what was drawn.
    weights = jnp.where(is_cutmix, outside.mean((1, 2)), weights)
  return (
    mix_with_previous(images, keep[..., None], options.group_size),
    mix_with_previous(targets, weights[:, None], options.group_size),
  )


def _draw_is_cutmix(
  key: jax.Array, batch: int, options: MixupOptions
) -> jax.Array:
  """Returns [B] bool: which examples CutMix mixes, the others being MixUp's."""
  if not options.mixup_alpha:
    return jnp.ones(batch, bool)
  if not options.cutmix_alpha:
    return jnp.zeros(batch, bool)
  return jax.random.bernoulli(key, options.cutmix_probability, (batch,))


def compute_cutmix_boxes(
  weights: jax.Array, centres: jax.Array, *, height: int, width: int
) -> jax.Array:
  """Returns the boxes that CutMix replaces, cut off at the image's border.

  Before that a box has the image's aspect ratio and 1 - weight of its area,
  rounded to whole pixels on each side.

  >>> compute_cutmix_boxes(
  ...   jnp.array([0.75]), jnp.array([[1, 4]]), height=8, width=8
  ... ).tolist()
  [[0, 2, 3, 6]]

  Args:
    weights: [B] float in 0 .. 1, the part of the image that is kept.
    centres: [B, 2] integer row and column of the box's centre.
    height: height of the images in pixels, H.
    width: width of the images in pixels, W.

  Returns:
    [B, 4] int32 top, left, bottom, right, in pixels; the last two exclusive.
  """
  image_size = jnp.array([height, width])
  sizes = jnp.sqrt(1 - weights)[:, None] * image_size
  sizes = jnp.round(sizes).astype(jnp.int32)
  starts = centres - sizes // 2
  corners = jnp.concatenate([starts, starts + sizes], axis=1)
  return jnp.clip(corners, 0, jnp.tile(image_size, 2))


def compute_outside_mask(
  boxes: jax.Array, *, height: int, width: int
) -> jax.Array:
  """Returns which pixels are outside their box.

  >>> box = jnp.array([[0, 1, 1, 3]])
  >>> compute_outside_mask(box, height=2, width=3).tolist()
  [[[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]]

  Args:
    boxes: [B, 4] integer top, left, bottom, right; the last two exclusive.
    height: height of the images in pixels, H.
    width: width of the images in pixels, W.

  Returns:
    [B, H, W] float32, 0 inside and 1 outside.
  """
  top, left, bottom, right = (boxes[:, i, None] for i in range(4))
  rows, columns = jnp.arange(height), jnp.arange(width)
  in_rows = (top <= rows) & (rows < bottom)
  in_columns = (left <= columns) & (columns < right)
  inside = in_rows[:, :, None] & in_columns[:, None, :]
  return 1 - inside.astype(jnp.float32)


def mix_with_previous(
  array: jax.Array, keep: jax.Array, group_size: int = 0
) -> jax.Array:
  """Returns keep * example + (1 - keep) * the example before it.

  >>> keep = jnp.array([[0.75], [1.0]])
  >>> mix_with_previous(jnp.array([[0.0], [8.0]]), keep).tolist()
  [[2.0], [8.0]]

  Args:
    array: a row for each example, [B, ...] float.
    keep: [B, ...] weights in 0 .. 1, broadcast against `array`. 0 and 1 give
      one of the two examples exactly.
    group_size: number of examples in a group, whose first has its last before
      it; 0 for the whole batch.

  Returns:
    Shape and dtype of `array`; computed in the wider dtype of the two.
  """
  groups = array.reshape(-1, group_size or len(array), *array.shape[1:])
  previous = jnp.roll(groups, 1, axis=1).reshape(array.shape)
  return (keep * array + (1 - keep) * previous).astype(array.dtype)
