"""The smallest task of the comparison with timm, for tests of its parts."""

from benchmarks.versus.task import Task

# Train steps of two pictures on the CPU; `dataclasses.replace` makes others.
TASK = Task(
  model='test_coatnet',
  image_size=(160, 160),
  batch_size=2,
  mode='train',
  dtype='float32',
  device='cpu',
)
