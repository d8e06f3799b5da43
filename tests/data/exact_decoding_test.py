"""Evaluation and prediction see the pixels that Pillow makes; training not."""

import io
import pathlib

import numpy as np
import PIL.Image
import pytest

from coatnet_jax.data.decoding import decode_image
from coatnet_jax.data.sources import create_source
from tools.predict import read_images

KINDS = {
  '4:2:0': {'subsampling': 2},
  '4:2:2': {'subsampling': 1},
  '4:4:4': {'subsampling': 0},
  'progressive': {'subsampling': 2, 'progressive': True},
  'coarse': {'subsampling': 2, 'quality': 20},
}


def create_jpeg(picture, kind):
  # An odd size, so that the last block and the last colours are parts.
  file, image = io.BytesIO(), PIL.Image.fromarray(picture(37, 51))
  image.save(file, 'JPEG', **{'quality': 85, **KINDS[kind]})
  return file.getvalue()


def decode_with_pillow(data):
  return np.asarray(PIL.Image.open(io.BytesIO(data)).convert('RGB'))


@pytest.fixture
def folder(tmp_path, picture, data_options):
  """Two photographs in one class, as options of a source."""
  for split in ('train', 'validation'):
    for number, kind in enumerate(('4:2:0', '4:2:2')):
      path = tmp_path / split / 'ape' / f'{number}.jpg'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(create_jpeg(picture, kind))
  return lambda **changes: data_options(
    **{'source': 'folder', 'data_dir': str(tmp_path), **changes}
  )


@pytest.mark.parametrize('kind', KINDS)
def test_pixels_are_those_of_pillow(picture, kind):
  data = create_jpeg(picture, kind)
  np.testing.assert_array_equal(decode_image(data), decode_with_pillow(data))


@pytest.mark.parametrize('kind', ['4:2:0', '4:2:2'])
def test_fast_pixels_are_others(picture, kind):
  data = create_jpeg(picture, kind)
  difference = decode_image(data, exact=False).astype(int) - decode_image(data)
  assert 0.5 < np.abs(difference).mean() < 10


@pytest.fixture(params=[0, 1], ids=['no cache', 'cache'])
def options(folder, request):
  return folder(cache_mebibytes=request.param)


def test_evaluation_is_exact_with_and_without_cache(options, read_whole_batch):
  source = create_source(options, 'eval')
  batch = read_whole_batch(source, options, (37, 51), batch_size=2)
  for row in range(2):
    path = pathlib.Path(source.describe(row))
    expected = decode_with_pillow(path.read_bytes())
    np.testing.assert_array_equal(batch['image'][row], expected)


def test_prediction_is_exact(folder, preprocessing):
  paths = sorted(pathlib.Path(folder().data_dir).rglob('*.jpg'))
  options = preprocessing(image_size=(37, 51), eval_crop_fraction=1.0)
  for path, image in read_images(paths, options, pytest.fail):
    np.testing.assert_array_equal(image, decode_with_pillow(path.read_bytes()))


def test_training_is_fast_with_and_without_cache(options, read_plain_batch):
  source = create_source(options, 'train')
  batch = read_plain_batch(source, options, (37, 51), batch_size=2)
  expected = {
    decode_image(
      pathlib.Path(source.describe(index)).read_bytes(), exact=False
    ).tobytes()
    for index in range(2)
  }
  assert {image.tobytes() for image in batch['image']} == expected
