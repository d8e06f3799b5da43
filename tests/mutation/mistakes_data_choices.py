"""Mistakes in which images are read, held out, and how often."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/data/splits.py',
    (
      'held_out_by_place',
      'hashlib.sha256(os.fsencode(name))',
      'hashlib.sha256(os.fsencode(str(len(name))))',
      'A file more and other images are held out.',
      'data/folder_test.py',
    ),
    (
      'classes_divided_alike',
      '      place += len(members)\n',
      '',
      'The first folds have more of every class than the last.',
      'data/splits_test.py::test_folds_have_each_picture_once_and_each_class_equally',
    ),
    (
      'groups_without_their_classes',
      '(numbers - 2 * lacks) * numbers / total**2',
      '0 * lacks',
      'Folds of groups have any number of any class.',
      'data/splits_test.py',
    ),
    (
      'class_of_few_groups_not_held_out',
      '    _mend(parts, counts, len(pictures.names))\n',
      '    pass\n',
      'A class of two groups is trained on alone.',
      'data/splits_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/sampling.py',
    (
      'classes_in_one_order',
      'self._order(-1, turn, len(self._members))',
      'self._order(-1, 0, len(self._members))',
      'Classes follow each other in one order, and so they are mixed by MixUp.',
      'data/sampling_test.py',
    ),
    (
      'balanced_by_no_seed',
      '(self._seed, number + 1, turn)',
      '(0, number + 1, turn)',
      'Balanced sampling is the same whatever the seed.',
      'data/sampling_test.py',
    ),
    (
      'sampled_with_replacement',
      'rng.permutation(size)',
      'rng.integers(size, size=size)',
      'Pictures of a class come up again before others have.',
      'data/sampling_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/label_list.py',
    (
      'labels_of_no_matter',
      "yield path, f'{size} {names}'",
      'yield path, size',
      'A run is resumed on other labels without a word.',
      'data/label_list_test.py::test_labels_that_change_places_are_other_data',
    ),
    (
      'commonest_label_counts',
      'min(row.labels, key=lambda n',
      'max(row.labels, key=lambda n',
      'Of several labels the commonest decides what is held out.',
      'data/label_list_test.py::test_several_labels_are_divided_by_the_rarest',
    ),
  ),
  *in_file(
    'coatnet_jax/data/listed_files.py',
    (
      'list_leaves_its_directory',
      "if inside.split('/')[0] == '..':",
      'if False:',
      'A list from a stranger reads any file.',
      'data/label_list_test.py',
    ),
    (
      'last_label_wins',
      '      if one != other:\n',
      '      if False:\n',
      'A picture that is named twice has one of its labels.',
      'data/label_list_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/data/near_duplicates.py',
    (
      'hash_believed',
      'if distances.min() <= _MOST_LEVELS:',
      'if True:',
      'Pictures of about the same outline are called the same.',
      'data/inspection_test.py',
    ),
    (
      'plain_pictures_the_same',
      'small.std() >= _LEAST_DEVIATION',
      'True',
      'Empty pictures are called the same.',
      'data/inspection_test.py',
    ),
  ),
)
