import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from coatnet_jax.data.decoding import decode_example
from coatnet_jax.data.sources import create_source
from coatnet_jax.data.tfds_source import create_tfds_source
from coatnet_jax.errors import UserError
from tools.convert_to_array_record import convert_to_array_record
from tools.convert_to_array_record import main as convert_main

# Of the pixels, [N, 28, 28], and the labels, [N], of the original files'
# first images of each class.
EMBEDDED_HASHES = {
  'train': (
    'e1427044c614fabc29feeff0f27e6b68f88a9ee2f2cfe7d783b9157159864883',
    '2c02745d4ad8b4511333d0eca662ac5664a371860abaa4588b1670e7be59fbdf',
  ),
  'eval': (
    '96315b1732ab731e68b8def3c284f34b605f7deb7a61e683c7d786265c827c83',
    'b2095bc797d1201e84da76c94012c02d0e6f07af0938df4e00120a3b42d1aa4c',
  ),
}


def store(data_dir, file_format, name='toy', features=None):
  """Prepares ten training and four test images of random pixels."""
  rng = np.random.default_rng(0)
  features = features or {
    'image': tfds.features.Image(encoding_format='png'),
    'label': tfds.features.ClassLabel(names=['ant', 'bee', 'cat']),
    'mask': tfds.features.Image(encoding_format='png', shape=(4, 4, 1)),
    'file_name': tfds.features.Text(),
  }

  def examples(count):
    for i in range(count):
      example = {
        'image': rng.integers(0, 256, (6 + i, 8, 3), np.uint8),
        'label': i % 3,
        'mask': np.zeros((4, 4, 1), np.uint8),
        'file_name': f'{i}.png',
      }
      yield i, {key: example[key] for key in features}

  return tfds.dataset_builders.store_as_tfds_dataset(
    name=name,
    version='1.2.3',
    features=tfds.features.FeaturesDict(features),
    split_datasets={'train': examples(10), 'test': examples(4)},
    data_dir=data_dir,
    file_format=file_format,
    disable_shuffling=True,
  )


@pytest.fixture(scope='module')
def data_dirs(tmp_path_factory):
  """TFDS data directories by file format, each with one data set, toy."""
  directories = {}
  for file_format in ('array_record', 'tfrecord'):
    directories[file_format] = tmp_path_factory.mktemp(file_format)
    store(str(directories[file_format]), file_format)
  return directories


def open_toy(data_dirs, name='toy', split='train'):
  return create_tfds_source(name, str(data_dirs['array_record']), split)


def pixels_of(source):
  return [decode_example(source, index)[0] for index in range(len(source))]


@pytest.mark.parametrize(
  ('split', 'per_class'), [('train', 1000), ('eval', 200)]
)
def test_embedded_data_set_is_the_documented_part(
  data_options, split, per_class
):
  options = data_options(name='fashion_mnist_12k', eval_split='test')
  source = create_source(options, split)
  examples = [source[index] for index in range(len(source))]
  labels = np.array([example['label'] for example in examples], np.uint8)
  images = np.stack([example['image'] for example in examples])
  assert images.shape == (10 * per_class, 28, 28, 3)
  assert images.dtype == np.uint8
  assert np.bincount(labels).tolist() == [per_class] * 10
  np.testing.assert_array_equal(images[..., 0], images[..., 2])
  hashes = tuple(
    hashlib.sha256(array.tobytes()).hexdigest()
    for array in (images[..., 0], labels)
  )
  assert hashes == EMBEDDED_HASHES[split]


def test_embedded_data_set_is_described(data_options, tmp_path, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  options = data_options(name='fashion_mnist_12k:1.0.0', eval_split='test')
  source = create_source(options, 'train')
  assert source.description == (
    'fashion_mnist_12k/1.0.0, train: 10,000 images, 10 classes'
  )
  assert source.class_names[:2] == ('T-shirt/top', 'Trouser')
  assert source.class_names[9] == 'Ankle boot'
  assert source.num_classes == 10
  assert source.describe(7) == 'fashion_mnist_12k/1.0.0, train, record 7'
  assert source.in_memory


def test_embedded_data_set_is_read_without_tensorflow_or_a_complaint():
  code = (
    'import sys\n'
    'from coatnet_jax.data.tfds_source import create_tfds_source\n'
    "source = create_tfds_source('fashion_mnist_12k', '', 'test')\n"
    "assert source[1999]['image']\n"
    "assert 'tensorflow' not in sys.modules\n"
  )
  result = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=False
  )
  assert result.returncode == 0, result.stderr
  assert 'group size' not in result.stderr


def test_source_gives_encoded_images_and_labels(data_dirs):
  source = open_toy(data_dirs)
  assert len(source) == 10
  assert source.class_names == ('ant', 'bee', 'cat')
  assert set(source[4]) == {'image', 'label'}
  assert source[4]['image'].startswith(b'\x89PNG')
  assert source[4]['label'] == 1
  assert source.description == 'toy/1.2.3, train: 10 images, 3 classes'
  assert source.describe(4) == 'toy/1.2.3, train, record 4 (4.png)'
  expected = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
  np.testing.assert_array_equal(pixels_of(source)[0], expected)


def test_split_may_be_a_part(data_dirs):
  source = open_toy(data_dirs, split='train[20%:50%]')
  names = [source.describe(index).split()[-1] for index in range(len(source))]
  assert names == ['(2.png)', '(3.png)', '(4.png)']


def test_data_dir_may_be_one_data_set(data_dirs):
  directory = data_dirs['array_record'] / 'toy' / '1.2.3'
  source = create_tfds_source('', str(directory), 'test')
  assert len(source) == 4


def test_data_dir_defaults_to_the_environment(data_dirs, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(data_dirs['array_record']))
  assert len(create_tfds_source('toy', '', 'train')) == 10


def test_source_can_be_sent_to_another_process(data_dirs):
  source = open_toy(data_dirs)
  pickled = pickle.dumps(source)
  assert len(pickled) < 1000
  copy = pickle.loads(pickled)
  assert copy[9] == source[9]
  assert copy.description == source.description
  assert copy.class_names == source.class_names


def test_data_that_is_not_there_says_where_and_how(tmp_path, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  with pytest.raises(UserError) as error:
    create_tfds_source('imagenet2012', '', 'train')
  message = str(error.value)
  assert f'looked in {tmp_path} ' in message
  assert (
    f'tfds.builder("imagenet2012", data_dir="{tmp_path}", '
    'file_format="array_record").download_and_prepare()'
  ) in message
  assert 'ILSVRC2012_img_train.tar' in message
  assert f'{tmp_path}/downloads/manual' in message


def test_data_that_downloads_itself_needs_no_archives(tmp_path):
  with pytest.raises(UserError) as error:
    create_tfds_source('cifar10', str(tmp_path), 'train')
  assert 'tfds.builder("cifar10"' in str(error.value)
  assert 'by hand' not in str(error.value)


@pytest.mark.parametrize(
  ('name', 'suggestion'),
  [
    ('imagnet2012', 'imagenet2012'),
    ('fashion_mnist12k', 'fashion_mnist_12k'),
    ('toyy', 'toy'),
  ],
)
def test_unknown_name_gets_close_ones(data_dirs, name, suggestion):
  with pytest.raises(UserError, match=f'it must be .*mean.* {suggestion}'):
    open_toy(data_dirs, name=name)


def test_name_that_is_none_is_refused(data_dirs):
  with pytest.raises(UserError, match=r"data.name is 'a b'"):
    open_toy(data_dirs, name='a b')
  with pytest.raises(UserError, match='are both empty'):
    create_tfds_source('', '', 'train')


def test_unknown_version_gets_the_known_ones(data_dirs):
  with pytest.raises(UserError, match=r'has only 1\.2\.3'):
    open_toy(data_dirs, name='toy:2.0.0')
  with pytest.raises(UserError, match=r'has only 1\.0\.0'):
    create_tfds_source('fashion_mnist_12k:2.0.0', '', 'train')


@pytest.mark.parametrize(
  'name', ['fashion_mnist_12k', 'fashion_mnist_12k/plain:1.0.0']
)
def test_a_directory_of_what_comes_with_the_code_is_refused(name, tmp_path):
  with pytest.raises(UserError, match=r'comes with the code.*data\.source'):
    create_tfds_source(name, str(tmp_path), 'test')


@pytest.mark.parametrize(
  'split', ['validation', 'train[', 'train+valid', '', 'train[:0]']
)
def test_unknown_or_empty_split_gets_the_known_ones(data_dirs, split):
  message = r'has no examples; it must be one of test, train, a part of one'
  with pytest.raises(UserError, match=message):
    open_toy(data_dirs, split=split)


def test_directory_without_a_data_set_is_refused(tmp_path):
  for directory in (tmp_path, tmp_path / 'missing'):
    with pytest.raises(UserError, match=f'no prepared TFDS.* {directory}:'):
      create_tfds_source('', str(directory), 'train')


@pytest.mark.parametrize('missing', ['image', 'label'])
def test_data_set_without_image_or_label_is_refused(tmp_path, missing):
  features = {
    'image': tfds.features.Image(encoding_format='png'),
    'label': tfds.features.ClassLabel(num_classes=3),
    'file_name': tfds.features.Text(),
  }
  del features[missing]
  store(str(tmp_path), 'array_record', features=features)
  message = f"no feature '{missing}' of type .* only .*file_name .Text"
  with pytest.raises(UserError, match=message):
    create_tfds_source('toy', str(tmp_path), 'train')


def test_label_that_is_no_class_is_refused(tmp_path):
  features = {
    'image': tfds.features.Image(encoding_format='png'),
    'label': tfds.features.Scalar(np.int64),
  }
  store(str(tmp_path), 'array_record', features=features)
  with pytest.raises(UserError, match='type ClassLabel'):
    create_tfds_source('toy', str(tmp_path), 'train')


def test_missing_shard_is_named(tmp_path):
  store(str(tmp_path), 'array_record')
  (shard,) = (tmp_path / 'toy' / '1.2.3').glob('*train*')
  shard.unlink()
  with pytest.raises(UserError, match=f'{shard} is missing'):
    create_tfds_source('toy', str(tmp_path), 'train')
  assert len(create_tfds_source('toy', str(tmp_path), 'test')) == 4


def test_tfrecord_says_how_to_convert_and_that_works(
  data_dirs, tmp_path, capsys
):
  directory = data_dirs['tfrecord'] / 'toy' / '1.2.3'
  with pytest.raises(UserError) as error:
    create_tfds_source('toy', str(data_dirs['tfrecord']), 'train')
  message = str(error.value)
  assert 'prepared as tfrecord, which has no random access' in message
  assert f'python -m tools.convert_to_array_record {directory} ' in message

  target = tmp_path / 'converted'
  assert convert_main([str(directory), str(target)]) == 0
  assert 'Wrote 2 shards' in capsys.readouterr().out
  converted = create_tfds_source('', str(target), 'train')
  expected = open_toy(data_dirs)
  assert [converted[i]['label'] for i in range(10)] == [
    expected[i]['label'] for i in range(10)
  ]
  for image, other in zip(
    pixels_of(converted), pixels_of(expected), strict=True
  ):
    np.testing.assert_array_equal(image, other)


def test_conversion_goes_on_where_it_was_interrupted(data_dirs, tmp_path):
  directory = data_dirs['tfrecord'] / 'toy' / '1.2.3'
  assert convert_to_array_record(directory, tmp_path) == 2
  (shard,) = tmp_path.glob('*test.array_record*')
  whole = shard.read_bytes()
  shard.rename(shard.with_name(shard.name + '.incomplete'))
  assert convert_to_array_record(directory, tmp_path) == 1
  assert shard.read_bytes() == whole


def test_conversion_refuses_what_is_not_tfrecord(data_dirs, tmp_path, capsys):
  directory = data_dirs['array_record'] / 'toy' / '1.2.3'
  with pytest.raises(UserError, match='as array_record; it must be tfrecord'):
    convert_main([str(directory), str(tmp_path)])
  with pytest.raises(UserError, match='no prepared TFDS data set'):
    convert_main([str(tmp_path), str(tmp_path)])
  with pytest.raises(SystemExit):
    convert_main([str(tmp_path)])
  assert 'required: TARGET_DIR (--help' in capsys.readouterr().err
