"""Models by the names of their variants."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax.numpy as jnp

from coatnet_jax.errors import UserError, explain_choice
from coatnet_jax.models import variants
from coatnet_jax.models.architecture import (
  list_feature_maps,
  replace,
)
from coatnet_jax.models.cnn_stem_vit import CNNStemViT, CNNStemViTVariant
from coatnet_jax.models.coatnet import CoAtNet
from coatnet_jax.models.compute_options import (
  COMPUTE_NAMES,
  Attention,
  ComputeOptions,
  GroupSize,
  Remat,
)
from coatnet_jax.values import OneOf, Range, check_names, checked

DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


@checked
def create_model(
  name: str,
  *,
  num_classes: Annotated[int, Range(at_least=0, at_most=2**24)] = 1000,
  stochastic_depth_rate: Annotated[float, Range(at_least=0, below=1)] = 0.0,
  dtype: Annotated[str, OneOf(DTYPES)] = 'float32',
  batch_norm_momentum: Annotated[float, Range(at_least=0, below=1)] = 0.99,
  feature_maps: Sequence[str] = (),
  attention: Attention = ComputeOptions.attention,
  batch_norm_group_size: GroupSize = ComputeOptions.batch_norm_group_size,
  remat: Remat = ComputeOptions.remat,
  scan_blocks: bool = ComputeOptions.scan_blocks,
  head_bias_init: Annotated[float, Range(at_least=-1000, at_most=1000)] = 0.0,
  **overrides: Any,
) -> CoAtNet | CNNStemViT:
  """Creates a model by the name of its variant.

      create_model('coatnet_2', transformer={'head_dim': 64})
      create_model('coatnet_0', feature_maps=('s2', 's3', 's4'))

  >>> model = create_model('coatnet_0', feature_maps=('s2', 's4'))
  >>> [(stage.name, stage.stride, stage.width) for stage in model.feature_info]
  [('s2', 8, 192), ('s4', 32, 768)]
  >>> create_model('coatnet_2', transformer={'head_dim': 48}).num_classes
  Traceback (most recent call last):
    ...
  coatnet_jax.errors.UserError: config.model.transformer.head_dim is 48;
  it must divide the width of every Transformer block, 512 here.

  Args:
    name: one of `list_variants()`, or 'coatnet' for one made from arguments:
      those of `variants.create_custom_variant`, as overrides.
    num_classes: width of the logits; 0 for pooled features instead.
    stochastic_depth_rate: probability, in training, of dropping the residual
      branch of the block after the last; grows linearly from 0 at the first.
    dtype: compute dtype, 'float32' or 'bfloat16'. Parameters, softmax
      and normalisation statistics are float32 in either case.
    batch_norm_momentum: part of the running statistics kept at a step.
    feature_maps: names of stages, 's0' to 's4', whose outputs are the result,
      instead of logits; `model.feature_info` has their strides and widths.
      What comes after the last of them, the head too, is not in the model.
    attention: implementation of relative attention, an `implementation` of
      `coatnet_jax.relative_attention`. Does not change what is computed, nor
      the variables.
    batch_norm_group_size: examples that BatchNorm takes statistics of in
      training; 0 for the whole batch.
    remat: policy of what the backward pass rematerialises, one of
      `block_sequence.REMAT_POLICIES`. Does not change what is computed, nor
      the variables.
    scan_blocks: whether equal blocks that follow each other are one loop, which
      takes as long to compile as one of them. Does not change what is computed,
      nor the variables.
    head_bias_init: number that the logits' biases start at. With a sigmoid per
      class and many classes, -log(num_classes) or the -10 of big_vision's
      ViTs spares the first steps, which learn that most are not there.
    **overrides: fields of `Variant` to replace; of its parts, such as
      `transformer`, a mapping of what changes.

  Returns:
    A module for `model.init(key, images, train=False)` and
    `model.apply(variables, images, train=False)`.

  Raises:
    UserError: an unknown variant, dtype, stage or implementation (with those
      there are), a number out of its range, or an override that is no field of
      the variant.
  """
  if name == variants.CUSTOM:
    check_names(
      'config.model', overrides, _parameters(variants.create_custom_variant)
    )
    variant = variants.create_custom_variant(**overrides)
  else:
    variant = variants.get_variant(name)
    variant = replace(variant, overrides, others=_parameters(create_model))
  stages = [stage.name for stage in list_feature_maps(variant)]
  for stage in feature_maps:
    if stage not in stages:
      raise UserError(
        explain_choice('A stage of config.model.feature_maps', stage, stages)
      )
  compute = ComputeOptions(
    attention=attention,
    batch_norm_group_size=batch_norm_group_size,
    remat=remat,
    scan_blocks=scan_blocks,
  )
  if isinstance(variant, CNNStemViTVariant):
    _check_has_no_options(name, compute)
    module = CNNStemViT
  else:
    if head_bias_init and not variant.head.use_bias:
      raise UserError(
        f'config.model.head_bias_init is {head_bias_init}; it must be 0, as the'
        f' logits of {name} have no biases.'
      )
    module = functools.partial(CoAtNet, compute=compute)
  return module(
    variant=variant,
    num_classes=num_classes,
    stochastic_depth_rate=stochastic_depth_rate,
    batch_norm_momentum=batch_norm_momentum,
    dtype=DTYPES[dtype],
    feature_maps=tuple(feature_maps),
    head_bias_init=head_bias_init,
  )


def _parameters(function: Callable[..., Any]) -> list[str]:
  """Returns the names of the arguments that a function has a default for."""
  parameters = inspect.signature(function).parameters
  return [n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY]


def _check_has_no_options(name: str, compute: ComputeOptions) -> None:
  """Raises UserError for what only a `CoAtNet` has."""
  for option in COMPUTE_NAMES:
    value, default = getattr(compute, option), getattr(ComputeOptions, option)
    if value != default:
      raise UserError(
        f'config.model.{option} is {value!r}; it must be {default!r}, as {name}'
        ' has no such choice.'
      )
