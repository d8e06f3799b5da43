"""Every option of a variant has a type and a range, as config keys have."""

import dataclasses
import math
import typing

import pytest

import coatnet_jax
from coatnet_jax.errors import UserError
from coatnet_jax.models import architecture, cnn_stem_vit
from coatnet_jax.values import OneOf, Range, annotations

# What `create_model` calls them -> class.
PARTS = {
  'stem': architecture.StemOptions,
  'mbconv': architecture.MBConvOptions,
  'transformer': architecture.TransformerOptions,
  'convnext': architecture.ConvNeXtOptions,
  'head': architecture.HeadOptions,
}
CLASSES = (
  *PARTS.values(),
  architecture.Variant,
  architecture.Stage,
  architecture.BlockGroup,
  cnn_stem_vit.CNNStemViTVariant,
)
WRONG = {
  bool: (1, 'True', None),
  int: (True, 1.5, math.nan, '1', None, 10**400, -1),
  float: (True, math.inf, math.nan, '1', None, 1e39, -1.0),
  str: (3, None, '', 'none such'),
}


def _kinds(annotation):
  """Yields (type, what stands beside it) of an annotation and its parts."""
  extras = ()
  if typing.get_origin(annotation) is typing.Annotated:
    annotation, *extras = typing.get_args(annotation)
  parts = [a for a in typing.get_args(annotation) if a is not Ellipsis]
  if not parts:
    yield annotation, extras
  for part in parts:
    yield from _kinds(part)


@pytest.mark.parametrize('options', CLASSES, ids=lambda c: c.__name__)
def test_no_number_is_without_a_range_and_no_text_without_choices(options):
  for name, annotation in annotations(options).items():
    for kind, extras in _kinds(annotation):
      if kind in (int, float):
        assert any(isinstance(e, Range) for e in extras), name
      if kind is str:
        assert any(isinstance(e, OneOf) for e in extras), name


@pytest.mark.parametrize('part', PARTS)
def test_what_cannot_be_is_refused_by_name(part):
  for field in dataclasses.fields(PARTS[part]):
    (kind, _), *_ = _kinds(annotations(PARTS[part])[field.name])
    for value in WRONG[kind]:
      value = (value,) if field.name == 'widths' else value
      with pytest.raises(
        UserError, match=rf'{part}\.{field.name} is .* must b'
      ):
        coatnet_jax.create_model('coatnet_0', **{part: {field.name: value}})


@pytest.mark.parametrize(
  ('name', 'change', 'message'),
  [
    ('coatnet_0', {'feature_maps': 's2'}, 'feature_maps is .s2.; it must be'),
    ('coatnet_0', {'stages': ()}, r'stages is \(\); .* not empty'),
    ('coatnet_0', {'image_size': (224,)}, r'image_size is .* of 2 values'),
    ('coatnet_0', {'in_channels': 0}, 'in_channels is 0; .* at least 1'),
    ('coatnet_0', {'num_classes': 2.5}, 'num_classes is 2.5; .* whole number'),
    ('coatnet_0', {'scan_blocks': 'yes'}, 'scan_blocks is .yes.; .* True or'),
    ('coatnet_0', {'head_bias_init': math.nan}, 'head_bias_init is nan'),
    ('coatnet_0', {'convnext': {'kernel_size': 4}}, 'kernel_size is 4; .* odd'),
    ('cnn_stem_vit', {'depth': None}, 'depth is None; .* whole number'),
    (3, {}, 'name is 3; it must be text'),
  ],
)
def test_arguments_of_create_model(name, change, message):
  with pytest.raises(UserError, match=message):
    coatnet_jax.create_model(name, **change)
