"""Pictures are turned as EXIF says, in every format and wherever they lie."""

import io

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from coatnet_jax.data.batching import create_eval_batches
from coatnet_jax.data.decoding import decode_image
from coatnet_jax.data.orientation import read_jpeg_orientation
from coatnet_jax.data.preparation.files import FolderPreparationSource
from coatnet_jax.data.preparation.preparation import PreparationOptions, prepare
from coatnet_jax.data.preparation.verification import verify_image
from coatnet_jax.data.sources import create_source
from tools.predict import read_images

FORMATS = {
  'JPEG': {'quality': 95},
  'PNG': {},
  'WEBP': {'lossless': True},
  'TIFF': {},
  'MPO': {'quality': 95},
}
ORIENTATION_TAG = 0x0112


def encode(pixels, name, orientation, **settings):
  exif = PIL.Image.Exif()
  exif[ORIENTATION_TAG] = orientation
  file = io.BytesIO()
  settings = {**FORMATS[name], 'exif': exif, **settings}
  PIL.Image.fromarray(pixels).save(file, name, **settings)
  return file.getvalue()


def decode_upright(data):
  image = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data)))
  return np.asarray(image.convert('RGB'))


@pytest.fixture
def quarters(picture):
  """A picture whose four corners differ, wider than high."""
  pixels = picture(24, 40)
  pixels[:12, :20] = (230, 20, 20)
  return pixels


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('name', FORMATS)
def test_every_orientation_of_every_format(quarters, name, orientation):
  data = encode(quarters, name, orientation)
  pixels = decode_image(data)
  assert pixels.shape[:2] == ((40, 24) if orientation > 4 else (24, 40))
  np.testing.assert_array_equal(pixels, decode_upright(data))
  fast = decode_image(data, exact=False).astype(int)
  assert np.abs(fast - pixels).mean() < 10


@pytest.mark.parametrize('value', [0, 9, 65535])
def test_orientations_that_mean_nothing_are_upright(quarters, value):
  for name in ('JPEG', 'PNG', 'WEBP'):
    assert decode_image(encode(quarters, name, value)).shape == (24, 40, 3)


@pytest.mark.parametrize('damage', [slice(8, 20), slice(14, 30), slice(6, 14)])
def test_damaged_exif_does_no_harm(quarters, damage):
  data = encode(quarters, 'JPEG', 6)
  start = data.index(b'Exif\0\0')
  content = bytearray(data)
  for place in range(start + damage.start, start + damage.stop):
    content[place] = 0xEE
  pixels = decode_image(bytes(content))
  assert sorted(pixels.shape) == [3, 24, 40]


def test_exif_behind_other_markers_is_found(quarters):
  data = encode(quarters, 'JPEG', 8)
  comment = b'\xff\xfe' + (2002).to_bytes(2, 'big') + b'Exif\0\0' + bytes(1994)
  padded = data[:2] + comment + b'\xff\xff' + data[2:]
  assert read_jpeg_orientation(padded) == 8
  np.testing.assert_array_equal(decode_image(padded), decode_image(data))


def test_odd_jpeg_is_turned_too(picture):
  settings = [cv2.IMWRITE_JPEG_RST_INTERVAL, 1]
  pixels = picture(16, 48)
  odd = cv2.imencode('.jpg', pixels, settings)[1].tobytes()
  # Bytes that simplejpeg refuses send the file to OpenCV.
  place = odd.index(b'\xff\xd1')
  odd = odd[:place] + bytes(3) + odd[place:]
  turned = encode(pixels, 'JPEG', 6)
  end = (
    turned.index(b'Exif')
    - 2
    + int.from_bytes(turned[turned.index(b'Exif') - 2 :][:2], 'big')
  )
  with_exif = odd[:2] + turned[turned.index(b'\xff\xe1') : end] + odd[2:]
  np.testing.assert_array_equal(
    decode_image(with_exif), cv2.rotate(decode_image(odd), 0)
  )


@pytest.fixture
def phone_pictures(tmp_path, quarters, data_options):
  """Options of a folder with one class of pictures that lie on their side."""
  for split in ('train', 'validation'):
    for name in ('JPEG', 'PNG', 'WEBP', 'TIFF'):
      path = tmp_path / split / 'ape' / f'{name}.{name.lower()}'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(encode(quarters, name, 6))
  return data_options(source='folder', data_dir=str(tmp_path))


def assert_all_upright(images, quarters):
  upright = cv2.rotate(quarters, cv2.ROTATE_90_CLOCKWISE).astype(int)
  assert len(images) == 4
  for image in images:
    assert np.abs(image - upright).mean() < 12


def test_evaluation_and_prediction_see_them_upright(
  tmp_path, phone_pictures, preprocessing, quarters
):
  options = preprocessing(image_size=(40, 24), eval_crop_fraction=1.0)
  (batch,) = create_eval_batches(
    create_source(phone_pictures, 'eval'),
    data=phone_pictures,
    preprocessing=options,
    global_batch_size=4,
  )
  assert_all_upright(batch['image'], quarters)
  paths = (tmp_path / 'train' / 'ape').iterdir()
  found = [image for _, image in read_images(paths, options, pytest.fail)]
  assert_all_upright(found, quarters)


def test_training_sees_them_upright(phone_pictures, read_plain_batch, quarters):
  source = create_source(phone_pictures, 'train')
  batch = read_plain_batch(source, phone_pictures, (40, 24), batch_size=4)
  assert_all_upright(batch['image'], quarters)


def test_prepared_pictures_are_upright_too(
  tmp_path, phone_pictures, data_options, read_whole_batch, quarters
):
  source = FolderPreparationSource('phone', tmp_path)
  prepare(source, PreparationOptions(output_dir=tmp_path / 'out'))
  options = data_options(name='phone', data_dir=str(tmp_path / 'out'))
  records = create_source(options, 'eval')
  batch = read_whole_batch(records, options, (40, 24), batch_size=4)
  assert_all_upright(batch['image'], quarters)


@pytest.mark.parametrize('name', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_what_is_kept_and_what_is_encoded_anew_is_turned_once(quarters, name):
  data = encode(quarters, name, 6)
  verified = verify_image(data, None, 10_000)
  kept = name in ('JPEG', 'PNG')
  assert (verified.data == data) == kept
  np.testing.assert_array_equal(decode_image(verified.data), decode_image(data))
  # ImageNet's records hold nothing but JPEG.
  as_jpeg = decode_image(verify_image(data, 'jpeg', 10_000).data)
  assert as_jpeg.shape == (40, 24, 3)
  assert np.abs(as_jpeg.astype(int) - decode_image(data)).mean() < 6
