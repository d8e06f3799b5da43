import gzip
import io
import json
import tarfile
import tracemalloc

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds

from coatnet_jax.data.decoding import decode_image
from coatnet_jax.data.known_datasets import KNOWN_DATASETS
from coatnet_jax.data.preparation import class_lists, imagenet
from coatnet_jax.data.preparation.examples import Examples
from coatnet_jax.data.preparation.imagenet import (
  ArchiveSource,
  create_imagenet21k,
  create_imagenet2012,
)
from coatnet_jax.data.preparation.preparation import (
  PreparationOptions,
  prepare,
)
from coatnet_jax.data.tfds_source import create_tfds_source
from coatnet_jax.errors import UserError
from tests.data.preparation import archive_examples
from tests.data.preparation.archive_examples import (
  CHANGED,
  DROPPED,
  SYNSETS,
  all_images,
  class_archives,
  class_files,
  hash_files,
  jpeg,
  tar,
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Archives of 50 synsets, some images of which are bad, and their list."""
  folder = tmp_path_factory.mktemp('archives')
  (folder / 'whole.tar').write_bytes(tar(class_archives()))
  (folder / 'classes.txt').write_text('\n'.join(SYNSETS))
  return folder


def open_source(folder, **options):
  return create_imagenet21k(
    'imagenet21k_winter21',
    folder / 'whole.tar',
    classes=folder / 'classes.txt',
    eval_fraction=0.2,
    **options,
  )


def options_for(tmp_path, **options):
  return PreparationOptions(
    output_dir=tmp_path, shard_mebibytes=0.01, **options
  )


@pytest.fixture(scope='module')
def prepared(folder, tmp_path_factory):
  """The data set of these archives, written by one process."""
  output_dir = tmp_path_factory.mktemp('one')
  return prepare(open_source(folder), options_for(output_dir))


def bad_names():
  return {f'{SYNSETS[i]}_{kind}.JPEG' for kind, i in DROPPED.items()}


def read_all(prepared):
  """Returns the image and label of each name, of both splits."""
  found = {}
  for split in ('train', 'validation'):
    data_dir = str(prepared.parents[1])
    source = create_tfds_source('imagenet21k_winter21', data_dir, split)
    for i in range(len(source)):
      name = source.describe(i).rsplit('(', 1)[1].rstrip(')')
      assert name not in found
      found[name] = source[i] | {'split': split}
  return found


def test_every_good_image_is_in_and_every_bad_one_is_reported(prepared):
  images = all_images()
  found = read_all(prepared)
  report = json.loads((prepared / 'report.json').read_text())
  dropped, changed = (
    {row[0] for split in report['splits'].values() for row in split[kind]}
    for kind in ('dropped', 'changed')
  )
  assert dropped == bad_names()
  assert changed == {f'{SYNSETS[i]}_{k}.JPEG' for k, i in CHANGED.items()}
  assert set(found) == set(images) - dropped
  for name, example in found.items():
    assert SYNSETS[example['label']] == name.split('_')[0]
    if name in changed:
      assert example['image'].startswith(b'\xff\xd8')
      assert decode_image(example['image']).shape == (18, 20, 3)
    else:
      assert example['image'] == images[name]


def test_the_reasons_are_in_the_report(prepared):
  text = (prepared / 'report.txt').read_text()
  for reason in (
    'imagenet21k_winter21/1.0.0, 50 classes',
    'The archives have 207 images and imagenet21k_winter21 has 13,153,500.',
    'truncated JPEG',
    'empty file',
    'not an image',
    '60000 x 60000 pixels, more than 100,000,000',
    'PNG encoded as JPEG',
    'CMYK JPEG encoded as JPEG',
    'GIF encoded as JPEG',
  ):
    assert reason in text


def test_tfds_opens_it(prepared):
  info = tfds.builder_from_directory(str(prepared)).info
  assert tuple(info.features['label'].names) == SYNSETS
  assert info.features['image'].encoding_format == 'jpeg'
  assert info.splits['train'].num_shards > 4
  total = sum(split.num_examples for split in info.splits.values())
  assert total == len(all_images()) - len(DROPPED)


def test_checksums_are_those_of_the_files(prepared):
  hashes = hash_files(prepared)
  lines = (prepared / 'checksums.sha256').read_text().splitlines()
  listed = dict(reversed(line.split('  ')) for line in lines)
  assert listed == {k: v for k, v in hashes.items() if '.array_record-' in k}


def test_held_out_images_depend_on_their_names_alone(
  prepared, folder, tmp_path
):
  held_out = {n for n, e in read_all(prepared).items() if e['split'] != 'train'}
  assert 20 < len(held_out) < 70
  # Other classes beside it, more images, and in another order.
  archive = dict(reversed(class_archives(6, 20).items()))
  (tmp_path / 'whole.tar').write_bytes(tar(archive))
  (tmp_path / 'classes.txt').write_text('\n'.join(reversed(SYNSETS[:20])))
  names = set(open_source(tmp_path).splits['validation'].names.tolist())
  common = {
    name
    for name in set(all_images()) - bad_names()
    if name.split('_')[0] in SYNSETS[:20]
  }
  assert {name.decode() for name in names} & common == held_out & common


@pytest.mark.parametrize(
  'num_workers', [2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_any_number_of_workers_writes_the_same_files(
  prepared, folder, tmp_path, num_workers
):
  options = options_for(tmp_path, num_workers=num_workers)
  assert hash_files(prepare(open_source(folder), options)) == hash_files(
    prepared
  )


@pytest.mark.slow
def test_class_archives_are_listed_in_parallel_in_the_same_order(
  folder, monkeypatch
):
  monkeypatch.setattr(imagenet, '_LISTED_ALONE_BYTES', 0)
  alone, together = open_source(folder), open_source(folder, num_workers=2)
  assert [e.compute_fingerprint() for e in alone.splits.values()] == [
    e.compute_fingerprint() for e in together.splits.values()
  ]


def test_source_order_is_that_of_the_archive(folder, tmp_path):
  source = open_source(folder)
  prepare(source, options_for(tmp_path, order='source'))
  found = create_tfds_source('imagenet21k_winter21', str(tmp_path), 'train')
  labels = [found[i]['label'] for i in range(len(found))]
  assert labels == sorted(labels)


def test_shuffled_shards_have_most_classes(prepared):
  data_dir = str(prepared.parents[1])
  part = create_tfds_source('imagenet21k_winter21', data_dir, 'train[:50%]')
  assert len({part[i]['label'] for i in range(len(part))}) > 30


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (
      gzip.compress(tar(class_archives(1))),
      r'whole.tar.gz is compressed by gzip; decompress it first',
    ),
    (
      tar({f'{SYNSETS[0]}.tar': gzip.compress(tar(class_files(0)))}),
      rf'{SYNSETS[0]}.tar in .* is compressed by gzip',
    ),
    (
      tar({f'{SYNSETS[0]}.tar.gz': gzip.compress(tar(class_files(0)))}),
      r'has a member .*.tar.gz, which is not a tar archive of a class',
    ),
  ],
)
def test_what_is_compressed_as_a_whole_is_refused(tmp_path, data, message):
  (tmp_path / 'whole.tar.gz').write_bytes(data)
  with pytest.raises(UserError, match=message) as error:
    create_imagenet21k('imagenet21k_winter21', tmp_path / 'whole.tar.gz')
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('imagenet21k_fall11', '50 classes and imagenet21k_fall11 has 21,841'),
    ('imagenet21k_winter21', '50 classes and imagenet21k_winter21 has 19,167'),
    ('imagenet21k_p', '0 classes with at least 500 images and .* has 10,450'),
  ],
)
def test_a_part_of_a_release_is_told_from_the_whole(folder, name, expected):
  with pytest.raises(UserError, match=expected):
    create_imagenet21k(name, folder / 'whole.tar')


def test_class_lists_are_derived_from_whole_releases():
  for dataset in KNOWN_DATASETS:
    if dataset.name in ('imagenet21k_fall11', 'imagenet21k_winter21'):
      sizes = {f'n{i:08d}': 1 for i in reversed(range(dataset.num_classes))}
      names = class_lists.derive_imagenet21k_classes(dataset.name, sizes)
      assert names == tuple(sorted(sizes))
  sizes = {f'n{i:08d}': 499 + i % 2 for i in range(20_900)}
  names = class_lists.derive_imagenet21k_classes('imagenet21k_p', sizes)
  assert names == tuple(f'n{i:08d}' for i in range(1, 20_900, 2))


def test_classes_that_are_not_in_the_list(folder, tmp_path):
  classes = tmp_path / 'classes.txt'
  classes.write_text('\n'.join(SYNSETS[:30]))
  arguments = ('imagenet21k_p', folder / 'whole.tar')
  with pytest.raises(UserError, match=f'20 classes not in.*{SYNSETS[30]}'):
    create_imagenet21k(*arguments, classes=classes)
  source = create_imagenet21k(
    *arguments, classes=classes, leave_out_other_classes=True
  )
  assert source.class_names == SYNSETS[:30]
  assert '20 classes of the archive' in source.notes[0]
  assert source.notes[1].endswith('imagenet21k_p has 11,582,739.')
  # Half of a class at most, where 50 of each are held out.
  assert len(source.splits['validation']) == sum(
    (4 + len(archive_examples.ODD.get(i, ()))) // 2 for i in range(30)
  )
  classes.write_text('\n'.join((*SYNSETS, 'n99999999')))
  with pytest.raises(UserError, match=r'lacks 1 of the 51 classes.*n99999999'):
    create_imagenet21k(*arguments, classes=classes)


def devkit(numbers, order) -> bytes:
  """Returns a devkit that numbers synsets in an order of its own."""
  synsets = np.array(
    [(i + 1, name) for i, name in enumerate(order)],
    [('ILSVRC2012_ID', 'O'), ('WNID', 'O')],
  )
  meta = io.BytesIO()
  scipy.io.savemat(meta, {'synsets': synsets})
  root = 'ILSVRC2012_devkit_t12/data'
  truth = '\n'.join(str(number) for number in numbers)
  return tar(
    {
      f'{root}/meta.mat': meta.getvalue(),
      f'{root}/ILSVRC2012_validation_ground_truth.txt': truth.encode(),
    }
  )


def test_imagenet2012_takes_labels_by_the_devkit(folder, tmp_path):
  rng = np.random.default_rng(0)
  order = rng.permutation(SYNSETS).tolist()
  numbers = rng.integers(1, 51, 12).tolist()
  names = [f'ILSVRC2012_val_{i + 1:08d}.JPEG' for i in range(12)]
  # Members are not in the order of their names.
  files = {names[i]: jpeg(i) for i in rng.permutation(12)}
  (tmp_path / 'val.tar').write_bytes(tar(files))
  (tmp_path / 'devkit.tar').write_bytes(devkit(numbers, order))
  source = create_imagenet2012(
    folder / 'whole.tar',
    tmp_path / 'val.tar',
    devkit=tmp_path / 'devkit.tar',
    classes=folder / 'classes.txt',
  )
  prepare(source, options_for(tmp_path))
  found = create_tfds_source('imagenet2012', str(tmp_path), 'validation')
  assert len(found) == 12
  for i in range(12):
    name = found.describe(i).rsplit('(', 1)[1].rstrip(')')
    number = names.index(name)
    assert found[i]['image'] == jpeg(number)
    assert SYNSETS[found[i]['label']] == order[numbers[number] - 1]


def test_imagenet2012_classes_are_those_of_tfds():
  assert len(class_lists.read_imagenet2012_classes()) == 1000
  assert len(class_lists.read_imagenet2012_validation_labels()) == 50_000
  features = tfds.builder('imagenet2012').info.features
  assert (
    list(class_lists.read_imagenet2012_classes()) == features['label'].names
  )


def test_another_number_of_validation_images(folder, tmp_path):
  (tmp_path / 'val.tar').write_bytes(tar({'a.JPEG': jpeg(1)}))
  with pytest.raises(UserError, match='1 images and there are 50,000 labels'):
    create_imagenet2012(folder / 'whole.tar', tmp_path / 'val.tar')


def test_imagenet2012_with_classes_it_has_not(folder, tmp_path):
  (tmp_path / 'val.tar').write_bytes(tar({'a.JPEG': jpeg(1)}))
  (tmp_path / 'devkit.tar').write_bytes(devkit([1], SYNSETS))
  archives = (folder / 'whole.tar', tmp_path / 'val.tar')
  with pytest.raises(UserError, match=r'devkit.tar has 1 class not in'):
    create_imagenet2012(*archives, devkit=tmp_path / 'devkit.tar')
  (tmp_path / 'devkit.tar').write_bytes(devkit([1], ['n01440764']))
  with pytest.raises(UserError, match=r'whole.tar has 50 classes not in'):
    create_imagenet2012(*archives, devkit=tmp_path / 'devkit.tar')


def test_what_is_not_the_devkit(folder, tmp_path):
  (tmp_path / 'val.tar').write_bytes(tar({'a.JPEG': jpeg(1)}))
  with pytest.raises(UserError, match=r'is not the ILSVRC 2012 devkit'):
    create_imagenet2012(
      folder / 'whole.tar', tmp_path / 'val.tar', devkit=tmp_path / 'val.tar'
    )


def test_a_devkit_that_inflates_is_not_read_whole(folder, tmp_path):
  (tmp_path / 'val.tar').write_bytes(tar({'a.JPEG': jpeg(1)}))
  # A list of zeros, and what lies before the lists.
  for name, size in (('data/meta.mat', 30_000_000), ('zeros', 70_000_000)):
    bomb = gzip.compress(tar({name: bytes(size)}), compresslevel=1)
    (tmp_path / 'devkit.tar.gz').write_bytes(bomb)
    tracemalloc.start()
    with pytest.raises(UserError, match=r'is not the ILSVRC 2012 devkit'):
      imagenet.read_devkit(tmp_path / 'devkit.tar.gz')
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_member_that_is_no_class_archive(tmp_path):
  (tmp_path / 'whole.tar').write_bytes(tar({'n01440764_1.JPEG': jpeg(1)}))
  with pytest.raises(UserError, match=r'n01440764_1.JPEG, which is not a tar'):
    create_imagenet21k('imagenet21k_fall11', tmp_path / 'whole.tar')


def test_a_class_archive_that_is_cut_short(tmp_path):
  inner = tar({'n01440764_1.JPEG': jpeg(1, 64)})[:700]
  (tmp_path / 'whole.tar').write_bytes(tar({'n01440764.tar': inner}))
  with pytest.raises(UserError, match=r'n01440764.tar in .* is truncated'):
    create_imagenet21k('imagenet21k_fall11', tmp_path / 'whole.tar')


def test_paths_in_the_archive_may_have_a_folder(folder, tmp_path):
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w') as archive:
    root = tarfile.TarInfo('winter21_whole')
    root.type = tarfile.DIRTYPE
    archive.addfile(root)
    for name, data in class_archives().items():
      info = tarfile.TarInfo(f'winter21_whole/{name}')
      info.size = len(data)
      archive.addfile(info, io.BytesIO(data))
  (tmp_path / 'whole.tar').write_bytes(file.getvalue())
  (tmp_path / 'classes.txt').write_text('\n'.join(SYNSETS))
  for split, examples in open_source(folder).splits.items():
    same = open_source(tmp_path).splits[split]
    assert same.names.tolist() == examples.names.tolist()


@pytest.mark.parametrize('left', [29, 21, 0])
def test_an_archive_that_became_shorter_is_an_error(tmp_path, left):
  path = tmp_path / 'images.tar'
  path.write_bytes(bytes(range(30)))
  examples = Examples(
    names=np.array([b'0.jpg', b'1.jpg', b'2.jpg']),
    labels=np.zeros(3, np.int32),
    files=np.zeros(3, np.int32),
    offsets=np.array([0, 10, 20]),
    sizes=np.full(3, 10),
  )
  source = ArchiveSource('x', '1.0.0', '', ('a',), (path,), {})
  assert source.read(examples, 2) == bytes(range(20, 30))
  path.write_bytes(bytes(range(left)))
  with pytest.raises(UserError, match='has become shorter'):
    source.read(examples, 2)
