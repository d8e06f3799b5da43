import importlib.resources
import re

import pytest

from coatnet_jax.imagenet_classes import list_class_names, list_words

FOLDER = (
  importlib.resources.files('coatnet_jax') / 'data/embedded/imagenet_classes'
)


def test_imagenets_order_is_that_of_tensorflow_datasets():
  package = importlib.resources.files('tensorflow_datasets')
  labels = package / 'datasets' / 'imagenet2012' / 'labels.txt'
  expected = labels.read_text(encoding='ascii').split()
  assert list_class_names(1000) == tuple(expected)


@pytest.mark.parametrize('number', [1000, 11_821, 21_841])
def test_every_class_has_words(number):
  names = list_class_names(number)
  assert len(set(names)) == number
  assert list(names) == sorted(names)
  for name in names:
    assert re.fullmatch(r'n\d{8}', name)
    words = list_words(name)
    assert words
    assert words[0] != name
    assert all(word and word == word.strip() for word in words)
    assert words[0].isprintable()


# Of timm's imagenet12k_synsets.txt.
def test_the_order_of_imagenet_12k():
  names = list_class_names(11_821)
  assert names[:3] == ('n00005787', 'n00006484', 'n00007846')
  # Few of ImageNet-1k's are not in it.
  assert len(set(list_class_names(1000)) - set(names)) == 7


def test_other_numbers_of_classes_have_numbers():
  assert list_class_names(3) == ('0', '1', '2')


@pytest.mark.parametrize('name', ['cat', '', 'n0274947', 'n99999999', '１'])
def test_other_classes_have_no_words(name):
  assert list_words(name) == ()


def test_the_notice_comes_with_the_words():
  text = (FOLDER / 'LICENSE').read_text(encoding='utf-8')
  assert 'WordNet 3.0 Copyright 2006 by Princeton University' in text
  assert 'the same appear on ALL copies' in ' '.join(text.split())
  assert len((FOLDER / 'classes.tsv.gz').read_bytes()) < 400_000
