"""Writes timm_crops.npz: photographs as timm's evaluation crops them.

    python -m tests.golden.make_timm_crops

Run from the root of the repository, with torch and timm installed
(requirements-parity.txt). The transform is made by timm's own code, of Pillow's
resizing: of torchvision, which is not installed, what it is given stands here,
as torchvision documents it.
"""

import io
import types
from unittest import mock

import numpy as np
from PIL import Image

from benchmarks import stand_ins
from tests.golden.timm_crop_cases import (
  CASES,
  FILE,
  STEP,
  read_photograph,
)

stand_ins.install('torchvision')

from timm.data import transforms, transforms_factory  # noqa: E402

_FILTERS = {
  'bilinear': Image.Resampling.BILINEAR,
  'bicubic': Image.Resampling.BICUBIC,
}


class Resize:
  """torchvision.transforms.Resize, of a Pillow image."""

  def __init__(self, size, interpolation):
    self.size, self.interpolation = size, interpolation

  def __call__(self, image):
    """Resizes the short side, or both."""
    if isinstance(self.size, int):
      width, height = image.size
      short, long = min(width, height), max(width, height)
      long = int(self.size * long / short)
      size = (self.size, long) if width <= height else (long, self.size)
    else:
      size = self.size[::-1]
    return image.resize(size, self.interpolation)


class CenterCrop:
  """torchvision.transforms.CenterCrop, of a Pillow image that is larger."""

  def __init__(self, size):
    self.size = size

  def __call__(self, image):
    """Cuts out the centre."""
    height, width = self.size
    top = round((image.height - height) / 2.0)
    left = round((image.width - width) / 2.0)
    return image.crop((left, top, left + width, top + height))


def compose(parts):
  """torchvision.transforms.Compose."""

  def transform(image):
    for part in parts:
      image = part(image)
    return image

  return transform


def main() -> None:
  """Writes the file."""
  photograph = Image.open(io.BytesIO(read_photograph())).convert('RGB')
  stand_in = types.SimpleNamespace(
    Resize=Resize, CenterCrop=CenterCrop, Compose=compose
  )
  functional = types.SimpleNamespace(
    get_dimensions=lambda image: (3, image.height, image.width),
    resize=lambda image, size, interpolation: image.resize(
      tuple(size)[::-1], interpolation
    ),
  )
  crops = {}
  with (
    mock.patch.object(transforms_factory, 'transforms', stand_in),
    mock.patch.object(transforms, 'F', functional),
    mock.patch.object(transforms, 'str_to_interp_mode', _FILTERS.get),
    mock.patch.object(transforms_factory, 'str_to_interp_mode', _FILTERS.get),
    mock.patch.object(
      transforms_factory, 'MaybePILToTensor', return_value=np.asarray
    ),
  ):
    for name, (size, fraction, mode, filter_name, on_side) in CASES.items():
      transform = transforms_factory.transforms_imagenet_eval(
        size,
        crop_pct=fraction,
        crop_mode=mode,
        interpolation=filter_name,
        use_prefetcher=True,
      )
      turned = Image.Transpose.ROTATE_90
      image = photograph.transpose(turned) if on_side else photograph
      crop = transform(image)
      assert crop.shape == (*size, 3)
      crops[name] = crop[::STEP, ::STEP]
  np.savez_compressed(FILE, **crops)


if __name__ == '__main__':
  main()
