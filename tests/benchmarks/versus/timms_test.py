"""What timm's contestant does where compiling fails; without torch and timm."""

import dataclasses
import functools
import importlib
import sys
import weakref
from unittest import mock

import pytest

from tests.benchmarks.versus import tasks

TASK = dataclasses.replace(tasks.TASK, dtype='bfloat16', device='gpu')


class _Model:
  """Holds itself, as compiled modules do, which are freed late."""

  def __init__(self):
    self.itself = self


@pytest.fixture(name='timms')
def fixture_timms(monkeypatch):
  """Imports the module with torch and timm that do nothing."""
  name = 'benchmarks.versus.timms'
  for package in ('torch', 'timm', 'timm.layers', 'torchvision'):
    monkeypatch.setitem(sys.modules, package, mock.MagicMock())
  monkeypatch.delitem(sys.modules, name, raising=False)
  yield importlib.import_module(name)
  del sys.modules[name]


@pytest.mark.parametrize('compiles', [True, False])
def test_the_second_try_has_nothing_of_the_first(timms, compiles, monkeypatch):
  events = []
  models = weakref.WeakSet()

  def create_step(self):
    model = _Model()
    models.add(model)
    events.append(f'model {len(models)}')
    is_first = len(events) == 1

    def take_step():
      if is_first and model in models:
        raise RuntimeError('strides must be contiguous\nand more')

    self._take_step = take_step

  monkeypatch.setattr(timms.Timms, '_create_step', create_step)
  for function in ('empty_cache', 'reset_peak_memory_stats'):
    getattr(timms.torch.cuda, function).side_effect = functools.partial(
      events.append, function
    )
  contestant = timms.Timms(TASK, compiles=compiles)
  contestant._create_step()
  if not compiles:
    with pytest.raises(RuntimeError, match='must be contiguous'):
      contestant.compile()
    return
  answer = contestant.compile()
  assert answer['notes'] == [
    'fused attention off, compiling fails with it: RuntimeError: strides must'
    ' be contiguous'
  ]
  # What is counted are the models that there are then.
  given_back = ['empty_cache', 'reset_peak_memory_stats']
  assert events == ['model 1', *given_back, 'model 1']
