"""Looks into a model while it is applied, and adds to what it computes there.

What is added is 0: the gradient by it is that by the value itself.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from coatnet_jax.models.coatnet import CoAtNet
from coatnet_jax.models.compute_options import ComputeOptions
from coatnet_jax.models.image_model import ImageModel
from coatnet_jax.models.transformer import RelativeAttention
from coatnet_jax.ops.relative_attention.definition import (
  Operands,
  compute_attention_weights,
)


class Attention(NamedTuple):
  """One block's attention, of a batch.

  Attributes:
    block: name of the block: 's3_block_0'.
    operands: queries, keys, values and biases.
    grid: (H, W) of the tokens.
    num_extra: number of tokens before those of the grid: 1 for a class token.
    out: attention's output, [B, N, heads, head_dim].
  """

  block: str
  operands: Operands
  grid: tuple[int, int]
  num_extra: int
  out: jax.Array

  def compute_weights(self) -> jax.Array:
    """Returns [B, heads, N, N] float32, query by key; rows add up to 1."""
    scale = self.operands.q.shape[-1] ** -0.5
    return compute_attention_weights(self.operands, grid=self.grid, scale=scale)


# Called with an attention; returns what is added to its output, or None.
Observer = Callable[[Attention], jax.Array | None]


def make_plain(model: ImageModel) -> ImageModel:
  """Returns a model that computes the same in float32, block by block.

  In a scan or a block that is rematerialised nothing can be seen from outside.

  Args:
    model: module from `create_model`.
  """
  if isinstance(model, CoAtNet):
    model = model.clone(compute=ComputeOptions())
  return model.clone(dtype=jnp.float32)


@contextlib.contextmanager
def watch_attention(grid: tuple[int, int], observe: Observer) -> Iterator[None]:
  """Shows every attention of the models that are applied meanwhile.

  Args:
    grid: (H, W) of the tokens where a model does not say it: the baseline's.
    observe: function called with each, in order.
  """
  parts: dict[tuple[str, ...], dict[str, jax.Array]] = {}

  def intercept(call, args, kwargs, context):
    module = context.module
    if (
      isinstance(module, RelativeAttention) and context.method_name == 'attend'
    ):
      *operands, own_grid = args
      out = call(*args, **kwargs)
      block = module.path[-2]
      return _show(observe, block, Operands(*operands), own_grid, 0, out)
    if (
      isinstance(module, nn.DenseGeneral)
      and isinstance(module.parent, nn.MultiHeadDotProductAttention)
      and context.method_name == '__call__'
    ):
      found = parts.setdefault(module.path[:-1], {})
      if module.name == 'out':
        operands = Operands(found['query'], found['key'], found['value'], None)
        num_extra = args[0].shape[1] - grid[0] * grid[1]
        x = _show(observe, module.path[-3], operands, grid, num_extra, args[0])
        return call(x, *args[1:], **kwargs)
      found[module.name] = call(*args, **kwargs)
      return found[module.name]
    return call(*args, **kwargs)

  with nn.intercept_methods(intercept):
    yield


def _show(observe, block, operands, grid, num_extra, out):
  """Calls an observer; returns the output with what it adds."""
  added = observe(Attention(block, operands, grid, num_extra, out))
  return out if added is None else out + added


@contextlib.contextmanager
def watch_stages(
  observe: Callable[[str, jax.Array], jax.Array | None],
) -> Iterator[None]:
  """Shows the output of every stage of the models that are applied meanwhile.

  Args:
    observe: function of a stage's name, 's0', and its map [B, H, W, C], which
      returns what is added to it, or None.
  """

  def intercept(call, args, kwargs, context):
    out = call(*args, **kwargs)
    name = None
    if isinstance(context.module, ImageModel):
      if context.method_name == 'apply_stem':
        name = 's0'
      elif context.method_name == 'apply_stage':
        name = f's{args[0]}'
    added = None if name is None else observe(name, out)
    return out if added is None else out + added

  with nn.intercept_methods(intercept):
    yield


def find_attention_blocks(
  model: ImageModel, variables: Any, images: jax.Array
) -> dict[str, tuple[int, tuple[int, int]]]:
  """Returns the blocks with attention, in order, without computing any.

  Args:
    model: module from `create_model`.
    variables: {'params', 'batch_stats'} of the model, perhaps abstract.
    images: [B, H, W, 3], perhaps abstract.

  Returns:
    Each block's number of heads and the grid of its tokens, by its name.
  """
  found = {}

  def observe(attention):
    found[attention.block] = (attention.operands.q.shape[2], attention.grid)

  model = make_plain(model)
  with watch_attention(find_last_grid(model, images), observe):
    jax.eval_shape(
      lambda variables, images: model.apply(variables, images, train=False),
      variables,
      images,
    )
  return found


def find_last_grid(model: ImageModel, images: jax.Array) -> tuple[int, int]:
  """Returns (H, W) of the last stage's map, of images [B, H, W, 3]."""
  total = model.variant.total_stride
  return images.shape[1] // total, images.shape[2] // total


def compute_bias_tables(
  model: ImageModel, variables: Any, image_size: tuple[int, int]
) -> dict[str, jax.Array]:
  """Computes what each block with relative attention adds to its logits.

  Args:
    model: module from `create_model`.
    variables: {'params', 'batch_stats'} of the model.
    image_size: (height, width) in pixels of the images.

  Returns:
    Biases by query - key, [heads, 2H-1, 2W-1] float32, by the block's name.
  """
  model = make_plain(model)
  images = jnp.zeros((1, *image_size, model.variant.in_channels))

  def compute(variables):
    found = {}

    def observe(attention):
      if attention.operands.bias_table is not None:
        found[attention.block] = attention.operands.bias_table

    with watch_attention(find_last_grid(model, images), observe):
      model.apply(variables, images, train=False)
    return found

  return jax.device_get(jax.jit(compute)(variables))
