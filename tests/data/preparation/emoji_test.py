import numpy as np
import pytest

from coatnet_jax.data.decoding import decode_image
from coatnet_jax.data.preparation.emoji import (
  CLASSES,
  EVAL_FRACTION,
  PACKAGES,
  EmojiSource,
  split_emoji,
)
from coatnet_jax.data.preparation.preparation import (
  PreparationOptions,
  prepare,
)
from coatnet_jax.data.tfds_source import create_tfds_source
from coatnet_jax.errors import UserError
from tests.data.preparation.emoji_examples import (
  create_table,
  emoji,
  image_names,
  picture,
  write_package,
)


@pytest.fixture(scope='module')
def splits():
  table = create_table()
  return split_emoji(table, dict.fromkeys(image_names(table), b'image'))


def names_of(examples):
  return [name.decode() for name in examples.names.tolist()]


def test_every_picture_but_skin_tones_is_once_in_a_split(splits):
  found = [name for part in splits.values() for name in names_of(part)]
  expected = set(image_names(create_table())) - {'1f3fb.png'}
  assert sorted(found) == sorted(expected)
  share = len(splits['validation']) / len(found)
  assert abs(share - EVAL_FRACTION) < 0.1


def test_variants_of_an_emoji_are_on_one_side(splits):
  sides = {}
  for split, examples in splits.items():
    for name in names_of(examples):
      if '200d' in name:
        thing = name.removesuffix('.png').split('-')[2]
        sides.setdefault(thing, []).append(split)
  assert len(sides) == 32
  assert all(len(found) == 9 for found in sides.values())
  assert all(len(set(found)) == 1 for found in sides.values())
  assert len({found[0] for found in sides.values()}) == 2


def test_labels_are_those_of_the_subcategories(splits):
  for examples in splits.values():
    for name, label in zip(names_of(examples), examples.labels.tolist()):
      if '200d' in name:
        assert list(CLASSES)[label] == 'role'
      else:
        assert label == (int(name.removesuffix('.png'), 16) - 0x10000) // 100


def test_no_subcategory_is_in_two_classes():
  names = [name for names in CLASSES.values() for name in names]
  assert len(names) == len(set(names)) == 98
  assert list(CLASSES) == sorted(CLASSES)


def test_both_artists_are_divided_alike(tmp_path):
  sources = [
    EmojiSource(*write_package(tmp_path, artist))
    for artist in ('google', 'twitter')
  ]
  for split in ('train', 'validation'):
    one, other = (source.splits[split] for source in sources)
    np.testing.assert_array_equal(one.names, other.names)
    np.testing.assert_array_equal(one.labels, other.labels)


def test_what_is_written_is_rgb_on_white(tmp_path):
  source = EmojiSource(*write_package(tmp_path, 'google'))
  prepare(source, PreparationOptions(output_dir=tmp_path / 'out'))
  found = create_tfds_source('emoji_google', str(tmp_path / 'out'), 'train')
  assert found.class_names == tuple(CLASSES)
  assert len(found) == len(source.splits['train'])
  image = found[0]['image']
  assert image.startswith(b'\x89PNG')
  # IHDR's colour type 2: no alpha channel.
  assert image[25] == 2
  pixels = decode_image(image)
  assert pixels.shape == (64, 64, 3)
  assert (pixels[:, :32] == 255).all()
  name = found.describe(0).split('(')[1][:-1]
  seed = image_names(create_table()).index(name)
  np.testing.assert_array_equal(pixels, decode_image(picture(seed)))


def test_another_file_is_refused(tmp_path):
  package, path = write_package(tmp_path, 'google')
  with pytest.raises(UserError, match=r'is not emoji-datasource-google 16.0.0'):
    EmojiSource(PACKAGES[0], path)
  with pytest.raises(UserError, match='No such file'):
    EmojiSource(package, tmp_path / 'none.tgz')


def test_a_package_without_what_is_looked_for(tmp_path):
  package, path = write_package(tmp_path, 'google', leave_out=['10000.png'])
  with pytest.raises(UserError, match=r'lacks 1 picture .*10000.png'):
    EmojiSource(package, path)
  package, path = write_package(tmp_path, 'google', [])
  with pytest.raises(UserError, match=r'has no emoji.json, or no pictures'):
    EmojiSource(package, path)
  package, path = write_package(tmp_path, 'google', [emoji('A', 'new')])
  with pytest.raises(UserError, match="'new' is in no class"):
    EmojiSource(package, path)
