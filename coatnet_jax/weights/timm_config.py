"""What timm has to be told of a model beside its weights.

A `config.json` beside model.safetensors, as timm reads both from a directory
(`timm.create_model('local-dir:DIR', pretrained=True)`) or from the Hugging Face
Hub ('hf-hub:OWNER/NAME'); or what to type for a file of weights alone.
"""

import types
from collections.abc import Mapping, Sequence
from typing import Any

from coatnet_jax.models import timm_variants
from coatnet_jax.models.architecture import Variant

# timm's name of what `config.preprocessing.eval_resize` says.
_CROP_MODES: Mapping[str, str] = types.MappingProxyType(
  {'timm': 'center', 'timm_squash': 'squash', 'squash': 'squash'}
)
# By these timm's pictures are ours to one level of 255.
EXACT_RESIZES = ('timm', 'timm_squash')


def create_config(
  name: str,
  variant: Variant,
  preprocessing: Mapping[str, Any],
  class_names: Sequence[str],
) -> dict[str, Any]:
  """Returns the content of config.json for a model that timm has.

  Args:
    name: name of the variant, which is timm's.
    variant: variant of the model.
    preprocessing: fields of `PreprocessingOptions`.
    class_names: name of each class.
  """
  size = list(preprocessing['image_size'])
  arguments = _find_size_argument(name, size)
  return {
    'architecture': name,
    'num_classes': len(class_names),
    'num_features': variant.widths[-1],
    'label_names': list(class_names),
    **({'model_args': arguments} if arguments else {}),
    'pretrained_cfg': {
      'custom_load': False,
      'fixed_input_size': True,
      'input_size': [variant.in_channels, *size],
      'pool_size': [side // variant.total_stride for side in size],
      'num_classes': len(class_names),
      'first_conv': 'stem.conv1',
      'classifier': 'head.fc',
      **_describe_preprocessing(preprocessing),
    },
  }


def write_call(
  name: str, path: str, num_classes: int, image_size: Sequence[int]
) -> str:
  """Returns what to type in Python for timm's model of a file of weights.

  >>> write_call('coatnet_0_rw_224', 'cats.safetensors', 2, (224, 224))
  "timm.create_model('coatnet_0_rw_224', checkpoint_path='cats.safetensors',
  num_classes=2)"

  Args:
    name: name of the variant, which is timm's.
    path: path of the file.
    num_classes: number of classes.
    image_size: (height, width) in pixels that the weights are for.
  """
  arguments = {
    'checkpoint_path': path,
    'num_classes': num_classes,
    **_find_size_argument(name, image_size),
  }
  words = [
    repr(name),
    *(f'{key}={value!r}' for key, value in arguments.items()),
  ]
  return f'timm.create_model({", ".join(words)})'


def write_transform_call(preprocessing: Mapping[str, Any]) -> str:
  """Returns what to type in Python for timm's transform of pictures.

  Args:
    preprocessing: fields of `PreprocessingOptions`.
  """
  arguments = {
    'input_size': (3, *preprocessing['image_size']),
    **_describe_preprocessing(preprocessing),
  }
  words = [
    f'{key}={tuple(value) if isinstance(value, list) else value!r}'
    for key, value in arguments.items()
  ]
  return f'timm.data.create_transform({", ".join(words)})'


def _describe_preprocessing(preprocessing: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what pictures go through, as timm calls it."""
  return {
    'interpolation': preprocessing['interpolation'],
    'crop_pct': preprocessing['eval_crop_fraction'],
    'crop_mode': _CROP_MODES.get(preprocessing['eval_resize'], 'center'),
    'mean': list(preprocessing['mean']),
    'std': list(preprocessing['std']),
  }


def _find_size_argument(
  name: str, image_size: Sequence[int]
) -> dict[str, tuple[int, ...]]:
  """Returns the argument of timm's for a size that isn't the model's own."""
  size = tuple(image_size)
  own = timm_variants.VARIANTS[name].image_size
  return {} if size == own else {'img_size': size}
