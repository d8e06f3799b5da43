"""Lists of pictures: what they may look like, and what is wrong with others."""

import json

import numpy as np
import pytest

from coatnet_jax.data.identity import compute_fingerprint
from coatnet_jax.data.sampling import find_class_counts
from coatnet_jax.data.sources import create_source
from coatnet_jax.errors import UserError


@pytest.fixture
def pictures(tmp_path, picture, encode):
  """A directory with a/0.png to a/5.png and the like of b."""
  for folder in 'ab':
    (tmp_path / folder).mkdir()
    for number in range(6):
      data = encode('.png', picture(6, 9, seed=number))
      (tmp_path / folder / f'{number}.png').write_bytes(data)
  return tmp_path


@pytest.fixture
def open_list(pictures, data_options):
  """Returns a function: a list's text or bytes, and a split, to its source."""

  def open_split(content, split='train', name='labels.csv', **changes):
    data = content.encode() if isinstance(content, str) else content
    (pictures / name).write_bytes(data)
    settings = {
      'source': 'folder',
      'data_dir': str(pictures / name),
      'cache_mebibytes': 0,
      'eval_split': 'val',
      **changes,
    }
    return create_source(data_options(**settings), split)

  return open_split


def _rows(delimiter=',', quote=''):
  return '\n'.join(
    f'{quote}{folder}/{number}.png{quote}{delimiter}{label}'
    for folder, label in (('a', 'cat'), ('b', 'dog'))
    for number in range(6)
  )


def _contents(source):
  """Returns the path and the class's name of each example, sorted."""
  return sorted(
    (name, source.class_names[source[index]['label']])
    for index, (name, _) in enumerate(source.list_files())
  )


EXPECTED = sorted(
  (f'{folder}/{number}.png', label)
  for folder, label in (('a', 'cat'), ('b', 'dog'))
  for number in range(6)
)


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('labels.csv', 'path,label\n' + _rows()),
    ('labels.csv', 'File;Class\r\n' + _rows(';').replace('\n', '\r\n')),
    ('labels.csv', '\ufefffilename,LABEL\n\n' + _rows(quote='"') + '\n\n'),
    ('LABELS.CSV', ('image\tlabel\n' + _rows('\t')).encode('utf-16')),
    ('labels.tsv', 'image\tlabel\n' + _rows('\t')),
    (
      'labels.jsonl',
      '\n'.join(
        json.dumps({'label': label, 'image': path, 'x': [1]})
        for path, label in EXPECTED
      ),
    ),
  ],
)
def test_lists_of_all_kinds_say_the_same(open_list, name, content):
  parts = [open_list(content, split, name) for split in ('train', 'eval')]
  assert [len(part) for part in parts] == [10, 2]
  assert sorted(_contents(parts[0]) + _contents(parts[1])) == EXPECTED
  assert parts[0].data_set_size == 12
  assert parts[0].description.endswith(
    f'{name}, not held out: 10 images, 2 classes'
  )


def test_numbers_are_classes_in_their_order(open_list):
  lines = [
    {'path': path, 'label': 10 if label == 'cat' else 9}
    for path, label in EXPECTED
  ]
  content = '\n'.join(map(json.dumps, lines))
  assert open_list(content, name='x.jsonl').class_names == ('9', '10')


def test_splits_are_those_of_their_column(open_list):
  content = 'path,label,split\n' + '\n'.join(
    f'{path},{label},{split}'
    for (path, label), split in zip(
      EXPECTED, ['train', 'train', 'train', 'val', 'test', ''] * 2, strict=True
    )
  )
  train, val = open_list(content), open_list(content, 'eval')
  assert _contents(train) == [
    row for row in EXPECTED if row[0][2] in ('0', '1', '2')
  ]
  assert _contents(val) == [('a/3.png', 'cat'), ('b/3.png', 'dog')]
  assert train.data_set_size == val.data_set_size == 8
  assert (
    "left out: 2 of the split 'test' (a/4.png, ...), 2 of no split (a/5.png,"
    in train.description
  )
  test = open_list(content, 'eval', eval_split='test')
  assert [name for name, _ in test.list_files()] == ['a/4.png', 'b/4.png']
  # Without a split to train on, all images of the list are divided.
  whole = open_list(content, train_split='')
  assert len(whole) == 10
  message = r"eval_split is 'dev', .* test, train, val"
  with pytest.raises(UserError, match=message):
    open_list(content, 'eval', eval_split='dev')
  with pytest.raises(UserError, match=r'num_folds is 3, but .* has splits'):
    open_list(content, num_folds=3)


def test_groups_are_those_of_their_column(open_list):
  content = 'path,label,patient_id\n' + '\n'.join(
    f'{path},{label},{path[2]}' for path, label in EXPECTED
  )
  held_out = open_list(content, 'eval', eval_fraction=0.34)
  numbers = [name[2] for name, _ in held_out.list_files()]
  assert sorted(numbers[:2] * 2) == sorted(numbers)
  assert len(numbers) == 4
  with pytest.raises(UserError, match=r'has a column that names groups'):
    open_list(content, group_pattern=r'\d')


def test_a_group_in_both_splits_is_refused(open_list):
  content = 'path,label,split,group\n' + '\n'.join(
    f'{path},{label},{"val" if path[2] == "0" else "train"},{path[2] in "01"}'
    for path, label in EXPECTED
  )
  with pytest.raises(UserError, match="group 'True' is in both 'train' and"):
    open_list(content)


def test_what_is_not_used_is_counted(open_list):
  content = 'path,label\n' + _rows().replace('b/5.png', 'b/4.png')
  description = open_list(content).description
  assert 'left out: 1 named twice (b/4.png), 1 that the list does not' in (
    description
  )


def test_the_identity_is_that_of_files_and_labels(open_list, tmp_path):
  content = 'path,label\n' + _rows()
  same = open_list(content), open_list(content, name='other.csv')
  assert len(set(map(compute_fingerprint, same))) == 1
  others = [
    content.replace('a/0.png,cat', 'a/0.png,dog'),
    content.replace('a/0.png,cat\n', ''),
    content.replace('cat', 'cow'),
  ]
  fingerprints = [compute_fingerprint(open_list(text)) for text in others]
  folds = [
    compute_fingerprint(open_list(content, num_folds=3, fold=fold))
    for fold in range(3)
  ]
  fingerprints += [compute_fingerprint(same[0]), *folds]
  assert len(set(fingerprints)) == len(fingerprints)


def test_labels_that_change_places_are_other_data(open_list):
  """The same files of the same classes, in the same split."""
  content = 'path,label,split\n' + '\n'.join(
    f'{path},{label},{"val" if path[2] == "5" else "train"}'
    for path, label in EXPECTED
  )
  swapped = content.replace('a/0.png,cat', 'a/0.png,dog').replace(
    'b/0.png,dog', 'b/0.png,cat'
  )
  sources = [open_list(text) for text in (content, swapped)]
  assert sources[0].class_names == sources[1].class_names
  assert len(set(map(compute_fingerprint, sources))) == 2


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('', r'labels.csv is empty; its first line must name the columns'),
    ('path,label\n', 'names no images'),
    ('path,labels\na/0.png,\na/1.png,|\n', 'names no classes: no image has'),
    ('path,text\na/0.png,cat', 'no column for the label: it has path, text'),
    ('image,path,label\n', 'several columns that may be the path: image, path'),
    ('path,label\na/0.png,cat\n\na/1.png\n', 'has 1 value in line 4'),
    ('path,label\na/0.png,\n', 'has no label in line 2'),
    ('path,label\n,cat\n', 'has no path in line 2'),
    ('path,label\n"a/0.png,cat\n', 'is no table at line 2: unexpected end'),
    ('path,label\na/0.png,c\0t\n', 'cannot be read: it is not text'),
    (
      'path,label\na/0.png,cat\na/9.png,cat\nb/9.png,dog\n',
      '2 of the 3 files .* are not there, as a/9.png of line 3; paths are',
    ),
    ('path,label\na\\0.png,cat\n', "Between folders stands '/'"),
    ('path,label\na/0,cat\n', "has its suffix, as '.jpg'"),
    (
      'path,label\na/0.png,cat\n./a/0.png,dog\n',
      "a/0.png twice, with the label 'cat' in line 2 and 'dog' in line 3",
    ),
    (
      'path,label,split\na/0.png,cat,train\na/0.png,cat,val\n',
      "twice, with the split 'train' in line 2 and 'val' in line 3",
    ),
    (
      'path,label,split\na/0.png,cat,train\nb/0.png,dog,val\n',
      "has the class 'dog' in the split 'val' alone, in line 3",
    ),
    (
      'path,label\n../x.png,cat\n',
      r'names ../x.png in line 2, which is not in',
    ),
    ('path,label\n/etc/passwd,cat\n', 'names /etc/passwd in line 2, which is'),
  ],
)
def test_a_table_that_is_wrong_is_said_with_its_line(
  open_list, content, message
):
  with pytest.raises(UserError, match=message):
    open_list(content, 'eval')


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('{"path": "a/0.png", "label"', 'has no JSON in line 2'),
    ('[' * 100_000, 'has no JSON in line 2'),
    ('["a/0.png", "cat"]', r"has \['a/0.png', 'cat'\] in line 2; each line"),
    ('{"path": "a/0.png"}', 'no column in line 2 for the label: it has path'),
    ('{"path": "a/0.png", "label": 1.5}', 'has the label 1.5 in line 2'),
    ('{"path": "a/0.png", "label": true}', 'has the label True in line 2'),
    ('{"path": "a/0.png", "label": "\\ud800"}', r"label '\\ud800' in line 2"),
    ('{"path": "%s/0.png", "label": "x"}' % ('a' * 999), 'are not there, as a'),
    ('{"path": "a/0.png", "label": null}', 'has the label None in line 2'),
    ('{"path": "a/\\u0000.png", "label": "x"}', r"path 'a/\\x00.png' in line"),
  ],
)
def test_json_that_is_wrong_is_said_with_its_line(open_list, line, message):
  content = '{"path": "a/0.png", "label": "cat"}\n' + line
  with pytest.raises(UserError, match=message):
    open_list(content, name='labels.jsonl')


LABELS = [['cat'], ['cat', 'dog'], [], ['dog', 'owl']] * 3


@pytest.mark.parametrize('name', ['labels.csv', 'labels.jsonl'])
def test_pictures_may_have_several_labels(open_list, name):
  paths = [path for path, _ in EXPECTED]
  content = 'path,Labels\n' + '\n'.join(
    f'{path},{"|".join(labels)}'
    for path, labels in zip(paths, LABELS, strict=True)
  )
  if name == 'labels.jsonl':
    content = '\n'.join(
      json.dumps({'path': path, 'label': labels})
      for path, labels in zip(paths, LABELS, strict=True)
    )
  changes = {'name': name, 'eval_fraction': 0.34}
  parts = [open_list(content, split, **changes) for split in ('train', 'eval')]
  targets = {}
  for source in parts:
    assert source.has_several_labels
    assert source.class_names == ('cat', 'dog', 'owl')
    for index, (path, _) in enumerate(source.list_files()):
      label = source[index]['label']
      np.testing.assert_array_equal(label, source.find_labels()[index])
      targets[path] = label.tolist()
    assert find_class_counts(source).tolist() == (
      source.find_labels().sum(0).tolist()
    )
  for path, labels in zip(paths, LABELS, strict=True):
    expected = [float(c in labels) for c in ('cat', 'dog', 'owl')]
    assert targets[path] == expected
  # Each of the four kinds is divided for itself, by its rarest class.
  assert sorted(map(len, parts)) == [4, 8]
  other = open_list(content.replace('owl', 'cow'), **changes)
  assert compute_fingerprint(other) != compute_fingerprint(parts[0])


def test_several_labels_are_divided_by_the_rarest(open_list):
  """Of four with an owl one is in each fold."""
  content = 'path,labels\n' + '\n'.join(
    f'{path},cat{"|owl" * (number % 3 == 0)}'
    for number, (path, _) in enumerate(EXPECTED)
  )
  for fold in range(4):
    held_out = open_list(content, 'eval', num_folds=4, fold=fold)
    assert find_class_counts(held_out).tolist() == [3, 1]


def test_a_class_of_several_that_would_only_be_held_out_is_named(open_list):
  content = 'path,labels,split\na/0.png,cat,train\na/1.png,cat|dog,val\n'
  with pytest.raises(UserError, match="'dog' in the split 'val' alone, in li"):
    open_list(content, 'eval')
  content = 'path,labels\na/0.png,cat|dog\na/1.png,cat\na/2.png,cat\n'
  assert 'dog' in open_list(content).class_names


def test_what_is_rarest_in_groups_may_be_held_out_alone(open_list):
  """Without a label, or with labels that other pictures have as well."""
  content = 'path,labels,group\n' + '\n'.join(
    f'{path},{"" if number < 3 else "cat|dog"},p{number // 3}'
    for number, (path, _) in enumerate(EXPECTED)
  )
  counts = [
    find_class_counts(
      open_list(content, 'eval', num_folds=4, fold=fold)
    ).tolist()
    for fold in range(4)
  ]
  assert sorted(counts) == [[0, 0], [3, 3], [3, 3], [3, 3]]


def test_paths_may_be_absolute_within_the_directory(open_list, pictures):
  content = 'path,label\n' + '\n'.join(
    f'{pictures}/{path},{label}' for path, label in EXPECTED
  )
  assert next(name for name, _ in open_list(content).list_files())[:2] == 'a/'


def test_a_name_in_another_encoding_is_found(open_list, pictures):
  content = b'path,label\n' + _rows().encode() + b'\ncaf\xe9.png,cat\n'
  with pytest.raises(UserError, match=r'as caf\\xe9.png of line 14'):
    open_list(content)
  name = (str(pictures) + '/').encode() + b'caf\xe9.png'
  with open(name, 'wb') as file:
    file.write((pictures / 'a' / '0.png').read_bytes())
  source = open_list(content, num_folds=2)
  other = open_list(content, 'eval', num_folds=2)
  described = [s.describe(i) for s in (source, other) for i in range(len(s))]
  assert sum(text.endswith(r'caf\xe9.png') for text in described) == 1


def test_a_missing_list_is_named(tmp_path, data_options):
  options = data_options(source='folder', data_dir=str(tmp_path / 'no.csv'))
  with pytest.raises(UserError, match=r'no.csv cannot be read: No such file'):
    create_source(options, 'train')
