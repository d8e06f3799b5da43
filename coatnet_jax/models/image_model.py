"""What every model of this project has: attributes, and checks of its input."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from coatnet_jax.errors import UserError
from coatnet_jax.models.architecture import FeatureMap, list_feature_maps


class ImageModel(nn.Module):
  """Base of `CoAtNet` and `CNNStemViT`.

  Attributes:
    variant: architecture without its number of classes.
    num_classes: width of the logits; 0 for pooled features instead.
    stochastic_depth_rate: probability, in training, of dropping a residual
      branch of the block after the last; grows linearly from 0 at the first.
    batch_norm_momentum: part of the running statistics kept at a step.
    dtype: compute dtype; parameters, softmax, statistics, pooled features and
      logits are float32.
    feature_maps: names of stages whose outputs are the result; () for logits.
    head_bias_init: number that the logits' biases start at.
    frozen: names of parts ('s0_conv_0', 's1_block_0', ...) that are computed as
      in evaluation, also in training.
  """

  variant: Any
  num_classes: int
  stochastic_depth_rate: float
  batch_norm_momentum: float
  dtype: jnp.dtype
  feature_maps: tuple[str, ...] = ()
  head_bias_init: float = 0.0
  frozen: tuple[str, ...] = ()

  @property
  def feature_info(self) -> tuple[FeatureMap, ...]:
    """Describes the stages in `feature_maps`, or all if there are none."""
    return tuple(
      stage
      for stage in list_feature_maps(self.variant)
      if stage.name in self.feature_maps or not self.feature_maps
    )

  @property
  def images_per_group(self) -> int | None:
    """How many images have statistics of their own; 0 for those of the batch.

    None for a model whose devices cannot compute their own images alone, as
    its dropout is drawn for all of them at once.
    """
    return None

  def check_image_size(self, shape: tuple[int, ...]) -> None:
    """Raises UserError for a shape of images that the model cannot take."""
    total, channels = self.variant.total_stride, self.variant.in_channels
    if (
      len(shape) != 4
      or any(s % total or not s for s in shape[1:3])
      or shape[3] != channels
    ):
      raise UserError(
        f'Images of shape {shape} do not fit: the model takes [B, H, W,'
        f' {channels}] with height and width divisible by {total}, the product'
        ' of its strides.'
      )

  def is_training(self, name: str, train: bool) -> bool:
    """Returns whether a part of the model is computed as in training."""
    return train and name not in self.frozen

  def sow_array(self, name: str, x: jax.Array) -> None:
    """Stores an intermediate as an array, not as a tuple of one."""
    self.sow(
      'intermediates', name, x, reduce_fn=lambda _, new: new, init_fn=tuple
    )
