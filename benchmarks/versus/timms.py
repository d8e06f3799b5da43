"""timm's model as a contestant, run by PyTorch: eager, or by torch.compile.

Channels last; AdamW fused; bfloat16 by autocast; on a GPU TF32 where float32 is
asked for, as JAX's default is, and cuDNN's choice by trying. The images are
normalised before, and come as torch's model likes them. Importing it needs
torch and timm.
"""

import contextlib
import functools
import gc
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import stand_ins
from benchmarks.versus import contestant
from benchmarks.versus.task import (
  ADAMW,
  MEAN,
  NUM_CLASSES,
  STD,
  Task,
  create_images,
)

stand_ins.install('torchvision')

import timm  # noqa: E402
import timm.layers  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

NO_FUSED_ATTENTION = 'fused attention off, compiling fails with it'


class Timms:
  """The questions that this contestant answers."""

  def __init__(self, task: Task, *, compiles: bool):
    """Takes what is to be computed, and whether by `torch.compile`."""
    self._task = task
    self._compiles = compiles
    self._device = torch.device('cuda' if task.device == 'gpu' else 'cpu')
    self._take_step = self._result = None

  def prepare(self) -> dict[str, Any]:
    """Makes model and images, and returns what they are."""
    if self._task.device == 'gpu':
      torch.set_float32_matmul_precision('high')
      torch.backends.cudnn.benchmark = True
    batch = create_images(self._task)
    images = torch.from_numpy(batch['image']).permute(0, 3, 1, 2)
    images = (images.to(self._device).float() / 255 - MEAN) / STD
    self._images = images.contiguous(memory_format=torch.channels_last)
    self._labels = torch.from_numpy(batch['label']).long().to(self._device)
    model = self._create_step()
    is_gpu = self._task.device == 'gpu'
    return {
      'num_parameters': sum(p.numel() for p in model.parameters()),
      'versions': {'torch': torch.__version__, 'timm': timm.__version__},
      'device': torch.cuda.get_device_name() if is_gpu else 'cpu',
    }

  def _create_step(self) -> nn.Module:
    """Makes the model and what takes a step of it; returns the model."""
    torch.manual_seed(0)
    model = timm.create_model(
      self._task.model, num_classes=NUM_CLASSES, drop_path_rate=0.0
    ).to(self._device, memory_format=torch.channels_last)
    run = torch.compile(model) if self._compiles else model
    if self._task.mode == 'train':
      model.train()
      self._take_step = functools.partial(
        self._train, run, _create_optimizer(model)
      )
    else:
      model.eval()
      self._take_step = functools.partial(self._infer, run)
    return model

  def _train(self, run: Callable[..., Any], optimizer: Any) -> None:
    with self._autocast():
      logits = run(self._images)
    loss = nn.functional.cross_entropy(logits.float(), self._labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    self._result = loss.detach()

  def _infer(self, run: Callable[..., Any]) -> None:
    with torch.inference_mode(), self._autocast():
      self._result = run(self._images)

  def _autocast(self) -> contextlib.AbstractContextManager:
    if self._task.dtype == 'float32':
      return contextlib.nullcontext()
    return torch.autocast(self._device.type, torch.bfloat16)

  def compile(self) -> dict[str, Any]:
    """Takes the first two steps, and returns what they took."""
    notes = []
    try:
      first = self._take_first_step()
    except Exception as error:  # Of the compiler: it has no class of its own.
      if not self._compiles:
        raise
      notes.append(f'{NO_FUSED_ATTENTION}: {contestant.describe(error)}')
      print(notes[0])  # In case that the second try fails, too.
    # Here, where the error and what it holds of the first try are gone: neither
    # the time nor the memory of that is the second one's.
    if notes:
      self._forget_step()
      timm.layers.set_fused_attn(False)
      self._create_step()
      first = self._take_first_step()
    return {
      'first_call_seconds': first,
      'notes': notes,
      **contestant.time_steps(self._take_step, self._wait, 1),
    }

  def _forget_step(self) -> None:
    """Gives back what the step and its model hold."""
    self._take_step = self._result = None
    torch.compiler.reset()
    gc.collect()
    if self._task.device == 'gpu':
      torch.cuda.empty_cache()
      torch.cuda.reset_peak_memory_stats()

  def _take_first_step(self) -> float:
    start = time.perf_counter()
    self._take_step()
    self._wait()
    seconds = time.perf_counter() - start
    if not torch.isfinite(self._result).all():
      raise FloatingPointError('the first step is not finite')
    return seconds

  def turn(self, steps: int) -> dict[str, float]:
    """Takes steps, and returns what one took."""
    seconds = contestant.time_steps(self._take_step, self._wait, steps)
    if self._task.device == 'gpu':
      # What it keeps to use again, the others may need in their turn.
      torch.cuda.empty_cache()
    return seconds

  def peak_bytes(self) -> int | None:
    """Returns the device's peak on a GPU, else the process's."""
    if self._task.device == 'cpu':
      return contestant.read_peak_memory()
    return torch.cuda.max_memory_allocated()

  def _wait(self) -> None:
    if self._task.device == 'gpu':
      torch.cuda.synchronize()


def _create_optimizer(model: nn.Module) -> torch.optim.Optimizer:
  """Returns AdamW that decays kernels alone, as this project's does."""
  groups = ([], [])
  for name, parameter in model.named_parameters():
    decays = parameter.ndim > 1 and not name.endswith('_table')
    groups[decays].append(parameter)
  return torch.optim.AdamW(
    [
      {'params': groups[False], 'weight_decay': 0.0},
      {'params': groups[True], 'weight_decay': ADAMW['weight_decay']},
    ],
    lr=ADAMW['learning_rate'],
    betas=(ADAMW['b1'], ADAMW['b2']),
    eps=ADAMW['eps'],
    fused=True,
  )


def main(way: str, argument: str) -> None:
  """Answers what is asked on stdin.

  Args:
    way: how PyTorch runs the model, 'eager' or 'compiled'.
    argument: JSON text of the `Task` to compute.
  """
  task = Task.from_json(argument)
  contestant.answer_as(Timms(task, compiles=way == 'compiled'))


if __name__ == '__main__':
  main(*sys.argv[1:])
