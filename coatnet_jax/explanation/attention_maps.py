"""What attention reads: all blocks together, for a class, or one head alone.

Rollout (arXiv 2005.00928) follows attention from the logits back to the first
block's tokens: a block hands half of what arrives on to its own position, by
its shortcut, and half along its attention, averaged over the heads. It is the
same for all classes. Relevance (arXiv 2103.15679) weighs each head's attention
by the class's gradient, and drops what speaks against it.

The head takes the mean over all positions, so rollout starts from all alike; in
the baseline with a class token from that. Where tokens are pooled between
blocks, what arrives at one is divided among those that it was made of.
Convolutions between blocks count as if they stayed where they are.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from coatnet_jax.explanation.interception import (
  Attention,
  find_last_grid,
  make_plain,
  watch_attention,
)
from coatnet_jax.models.image_model import ImageModel

# A block's attention, averaged over the heads: [B, N, N], its grid and how many
# tokens stand before those of the grid.
Layer = tuple[jax.Array, tuple[int, int], int]


def compute_rollout(
  model: ImageModel, variables: Any, images: jax.Array
) -> jax.Array:
  """Computes attention rollout over all blocks.

  Args:
    model: network with attention, from `create_model`.
    variables: {'params', 'batch_stats'} of the model.
    images: [B, H, W, 3] float32, normalised.

  Returns:
    [B, h, w] float32, on the grid of the first block with attention; adds up to
    1, or less where a class token keeps some.
  """
  model = make_plain(model)
  layers = []

  def observe(attention: Attention):
    weights = attention.compute_weights().mean(1)
    identity = jnp.eye(weights.shape[-1])
    layers.append(
      ((weights + identity) / 2, attention.grid, attention.num_extra)
    )

  with watch_attention(find_last_grid(model, images), observe):
    model.apply(variables, images, train=False)
  return follow_back(layers)


def compute_relevance(
  model: ImageModel, variables: Any, images: jax.Array, classes: jax.Array
) -> jax.Array:
  """Computes which tokens attention reads that speak for a class.

  Args:
    model: network with attention and logits, from `create_model`.
    variables: {'params', 'batch_stats'} of the model.
    images: [B, H, W, 3] float32, normalised.
    classes: class to explain in each, [B] int32.

  Returns:
    [B, h, w] float32, at least 0, on the grid of the first block with
    attention.
  """
  model = make_plain(model)
  grid = find_last_grid(model, images)

  def compute_logits(added):
    seen = []

    def observe(attention: Attention):
      seen.append(attention)
      return None if added is None else added[len(seen) - 1]

    with watch_attention(grid, observe):
      logits = model.apply(variables, images, train=False)
    total = jnp.take_along_axis(logits, classes[:, None], axis=-1).sum()
    kept = [(attention.operands, attention.out) for attention in seen]
    return total, (kept, seen)

  fixed = []

  def find_outputs():
    _, (kept, seen) = compute_logits(None)
    fixed.extend((a.block, a.grid, a.num_extra) for a in seen)
    return [out for _, out in kept]

  zeros = jax.tree.map(
    lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
    jax.eval_shape(find_outputs),
  )
  gradients, kept = jax.grad(
    lambda added: (lambda t, k: (t, k[0]))(*compute_logits(added)),
    has_aux=True,
  )(zeros)
  layers, shortcuts = [], []
  for (block, own_grid, num_extra), (operands, out), gradient in zip(
    fixed, kept, gradients
  ):
    attention = Attention(block, operands, own_grid, num_extra, out)
    weights = attention.compute_weights()
    # The gradient by a weight, of query and key: what the key's value is worth
    # to the query's output.
    by_weight = jnp.einsum('bqhd,bkhd->bhqk', gradient, operands.v)
    read = jax.nn.relu(weights * by_weight).mean(1)
    identity = jnp.broadcast_to(jnp.eye(read.shape[-1]), read.shape)
    layers.append((read + identity, own_grid, num_extra))
    shortcuts.append((identity, own_grid, num_extra))
  # Without what only shortcuts carry, which is the same at all positions.
  return jax.nn.relu(follow_back(layers) - follow_back(shortcuts))


def compute_head_attention(
  model: ImageModel,
  variables: Any,
  images: jax.Array,
  *,
  block: str,
  position: tuple[int, int],
  head: int | None,
) -> jax.Array:
  """Computes what one position reads in one block.

  Args:
    model: network with attention, from `create_model`.
    variables: {'params', 'batch_stats'} of the model.
    images: [B, H, W, 3] float32, normalised.
    block: name of the block, one of `find_attention_blocks`.
    position: (row, column) of the reading token in the block's grid.
    head: number of the head, from 0; None for the mean of all.

  Returns:
    [B, h, w] float32, on the block's grid; adds up to 1, or less where a class
    token is read too.
  """
  model = make_plain(model)
  found = []

  def observe(attention: Attention):
    if attention.block == block:
      height, width = attention.grid
      index = attention.num_extra + position[0] * width + position[1]
      weights = attention.compute_weights()[:, :, index]  # [B, heads, N]
      weights = weights.mean(1) if head is None else weights[:, head]
      weights = weights[:, attention.num_extra :]
      found.append(weights.reshape(-1, height, width))

  with watch_attention(find_last_grid(model, images), observe):
    model.apply(variables, images, train=False)
  return found[0]


def follow_back(layers: Sequence[Layer]) -> jax.Array:
  """Follows what arrives at the logits back to the first block's tokens.

  Two tokens, of which the first reads the second alone, and the second itself:

  >>> layer = (jnp.array([[[0.5, 0.5], [0.0, 1.0]]]), (1, 2), 0)
  >>> follow_back([layer]).tolist()
  [[[0.25, 0.75]]]
  >>> follow_back([layer, layer]).tolist()
  [[[0.125, 0.875]]]

  Args:
    layers: for each block, in the order of their application: what each token
      takes of each, [B, N, N]; the grid (h, w) of the tokens; and how many
      tokens stand before those of the grid.

  Returns:
    [B, h, w], on the grid of the first.
  """
  matrix, grid, num_extra = layers[-1]
  batch = matrix.shape[0]
  if num_extra:  # The head reads the class token.
    arriving = jnp.zeros(matrix.shape[:2]).at[:, 0].set(1.0)
  else:
    arriving = jnp.full(matrix.shape[:2], 1 / matrix.shape[1])
  for matrix, own_grid, _ in reversed(layers):
    if own_grid != grid:
      arriving = _divide(arriving, grid, own_grid)
      grid = own_grid
    arriving = jnp.einsum('bq,bqk->bk', arriving, matrix)  # [B, N]
  return arriving[:, num_extra:].reshape(batch, *grid)


def _divide(
  arriving: jax.Array, grid: tuple[int, int], larger: tuple[int, int]
) -> jax.Array:
  """Divides [B, h*w] among the tokens [B, H*W] that were pooled."""
  rows, columns = (large // small for large, small in zip(larger, grid))
  x = arriving.reshape(-1, *grid) / (rows * columns)
  x = jnp.repeat(jnp.repeat(x, rows, axis=1), columns, axis=2)
  return x.reshape(len(arriving), -1)
