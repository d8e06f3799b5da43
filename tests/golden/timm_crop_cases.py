"""What timm_crops.npz holds crops of; see make_timm_crops.py.

The photograph is matplotlib's sample of Grace Hopper (public domain), a JPEG of
600 x 512 pixels. Of each crop every fourth row and column is kept.
"""

import importlib.resources
import pathlib

FILE = pathlib.Path(__file__).with_name('timm_crops.npz')
STEP = 4
# name: image size, crop_pct, crop_mode, interpolation, whether the photograph
# lies on its side.
CASES = {
  '224': ((224, 224), 0.95, 'center', 'bicubic', False),
  '224_landscape': ((224, 224), 0.95, 'center', 'bicubic', True),
  '224_nano': ((224, 224), 0.9, 'center', 'bicubic', False),
  '384_squash': ((384, 384), 1.0, 'squash', 'bicubic', False),
  '160x256': ((160, 256), 0.875, 'center', 'bilinear', False),
  '640': ((640, 640), 0.95, 'center', 'bicubic', True),
}


def read_photograph() -> bytes:
  """Returns the JPEG file."""
  package = importlib.resources.files('matplotlib')
  folder = package / 'mpl-data' / 'sample_data'
  return (folder / 'grace_hopper.jpg').read_bytes()
