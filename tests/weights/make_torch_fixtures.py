"""Writes the PyTorch files that torch_file_test.py reads.

With torch 2 installed: `python -m tests.weights.make_torch_fixtures`. The
expected values stand in the test, the views in shared_views.py.
"""

import argparse
import collections
import io
import pathlib
import zipfile

import torch

from tests.weights.shared_views import cut_views

DIRECTORY = pathlib.Path(__file__).parent


def _save(name, content, **options):
  torch.save(content, DIRECTORY / f'{name}.pth', **options)


def main():
  """Writes the files beside this script."""
  torch.manual_seed(0)
  layers = [
    ('conv', torch.nn.Conv2d(2, 3, 3)),
    ('norm', torch.nn.BatchNorm2d(3)),
  ]
  model = torch.nn.Sequential(collections.OrderedDict(layers))
  with torch.no_grad():
    for index, value in enumerate(model.state_dict().values()):
      count = value.numel()
      value.copy_((torch.arange(count) + 100 * index).reshape(value.shape))
  state_dict = model.state_dict()
  _save('state_dict', state_dict)
  _save('legacy', state_dict, _use_new_zipfile_serialization=False)
  # Without what names the files of the machine that wrote it.
  program = io.BytesIO()
  torch.jit.save(torch.jit.script(model), program)
  with (
    zipfile.ZipFile(program) as whole,
    zipfile.ZipFile(DIRECTORY / 'torchscript.pt', 'w') as archive,
  ):
    for name in whole.namelist():
      if not name.endswith('.debug_pkl'):
        archive.writestr(name, whole.read(name))
  _save('model', model)

  averages = {name: 2 * value for name, value in state_dict.items()}
  optimizer = torch.optim.AdamW(model.parameters())
  model(torch.zeros(1, 2, 4, 4)).sum().backward()
  optimizer.step()
  _save(
    'checkpoint',
    {
      'epoch': 3,
      'arch': 'coatnet_0_rw_224',
      'metric': 81.5,
      'state_dict': state_dict,
      'state_dict_ema': averages,
      'optimizer': optimizer.state_dict(),
      'args': argparse.Namespace(lr=0.1, size=(224, 224), resume=None),
      'device': torch.device('cpu'),
      'shape': torch.Size([1, 2]),
    },
  )
  wrapped = torch.nn.DataParallel(torch.nn.Linear(2, 1, bias=False))
  with torch.no_grad():
    wrapped.module.weight.copy_(torch.tensor([[1.0, 2.0]]))
  _save('data_parallel', {'model': wrapped.state_dict()})

  values = torch.arange(6.0)
  _save(
    'types',
    {
      'parameter': torch.nn.Parameter(values.clone()),
      'float16': values.half(),
      'bfloat16': values.bfloat16() / 3,
      'float64': values.double(),
      'int64': torch.arange(-1, 2),
      'int32': torch.arange(-1, 2, dtype=torch.int32),
      'int16': torch.arange(-1, 2, dtype=torch.int16),
      'int8': torch.arange(-1, 2, dtype=torch.int8),
      'uint8': torch.arange(3, dtype=torch.uint8),
      'bool': torch.tensor([True, False]),
      'scalar': torch.tensor(7.0),
      'count': torch.tensor(8),
      'empty': torch.zeros(0, 3),
    },
  )
  _save('views', cut_views(torch.arange(24.0)))
  _save('expanded', {'repeated': torch.ones(1).expand(4)})
  _save('complex', {'complex': torch.ones(2, dtype=torch.complex64)})


if __name__ == '__main__':
  main()
