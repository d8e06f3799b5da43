"""Every parameter of every variant changes the result.

With running statistics: normalised by those of the batch, a bias that only a
product follows has none (MBConv's `pre_norm`, where no activation comes after).
"""

import dataclasses
import math

import jax
import numpy as np
import pytest

from coatnet_jax.models import factory, variants
from coatnet_jax.models.architecture import Variant
from coatnet_jax.models.variables import abstract_variables
from coatnet_jax.tree_names import flatten
from coatnet_jax.weights import names

# What no result depends on: a softmax does not change where the same number is
# added to all logits of a query.
WITHOUT_EFFECT = ('relative_position_mlp/out/bias', 'attention/key/bias')


def _shrink(variant):
  """Returns a variant of the same form: one narrow block of each group."""
  if not isinstance(variant, Variant):
    return dataclasses.replace(variant, width=32, depth=1, num_heads=2)
  width = 16
  stages = []
  for stage in variant.stages:
    groups = []
    for group in stage.groups:
      # Where the variant keeps its width, so does this one.
      is_wider = group.width > variant.stem.widths[-1]
      grows = is_wider or group.kind == 'transformer'
      width = min(2 * width, 32) if grows else width
      groups.append(dataclasses.replace(group, num_blocks=1, width=width))
    stages.append(dataclasses.replace(stage, groups=tuple(groups)))
  return dataclasses.replace(
    variant,
    stem=dataclasses.replace(
      variant.stem, widths=(16,) * len(variant.stem.widths)
    ),
    stages=tuple(stages),
    transformer=dataclasses.replace(
      variant.transformer, head_dim=16, relative_position_mlp_width=8
    ),
  )


def _forms():
  """Returns each form once, with the names of the variants that have it."""
  forms = {}
  for name in variants.list_variants():
    forms.setdefault(_shrink(variants.get_variant(name)), []).append(name)
  return {found[0]: (form, found) for form, found in forms.items()}


FORMS = _forms()


def test_every_variant_has_a_form_here():
  found = [name for _, of_form in FORMS.values() for name in of_form]
  assert sorted(found) == variants.list_variants()


# Between them, every kind of block and of relative position.
QUICK = ('coatnet_0', 'coatnet_3_rw_224', 'coatnet_rmlp_0_rw_224')


@pytest.mark.parametrize(
  'name',
  [
    name
    if set(found) & set(QUICK)
    else pytest.param(name, marks=(pytest.mark.slow, pytest.mark.rotating))
    for name, (_, found) in FORMS.items()
  ],
)
def test_every_parameter_gets_a_gradient(name, monkeypatch):
  form, _ = FORMS[name]
  monkeypatch.setitem(variants.VARIANTS, name, form)
  model = factory.create_model(name, num_classes=5)
  rng = np.random.default_rng(0)
  # Not square: each offset of a table has its own place.
  images = rng.normal(size=(2, 64, 96, 3)).astype(np.float32)
  variables = jax.tree_util.tree_map_with_path(
    lambda path, leaf: _randomize(path, leaf.shape, rng),
    abstract_variables(model, (64, 96)),
  )

  @jax.jit
  @jax.grad
  def compute_gradients(params, batch_stats):
    variables = {'params': params, 'batch_stats': batch_stats}
    logits = model.apply(variables, images, train=False)
    return (logits**2).sum()

  gradients = compute_gradients(variables['params'], variables['batch_stats'])
  for path, gradient in flatten(gradients).items():
    gradient = np.abs(gradient)
    if path.endswith(WITHOUT_EFFECT):
      assert gradient.max() < 1e-4, path
      continue
    assert gradient.max() > 1e-7, path
    if path.endswith(names.TABLE):
      assert np.count_nonzero(gradient) == gradient.size, path


def _randomize(path, shape, rng):
  """Returns numbers that are not 0 or 1, and neither drown nor saturate."""
  noise = rng.normal(size=shape).astype(np.float32)
  if path[-1].key in ('scale', 'var', 'gamma'):
    return 1 + 0.2 * np.abs(noise)
  fan_in = math.prod(shape[:-1]) if path[-1].key == 'kernel' else 16
  return noise / math.sqrt(max(fan_in, 9))
