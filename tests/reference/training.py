"""A whole run: steps, averages, and the evaluation of the averages.

The formulas are the papers' (AdamW, MixUp, CutMix, label smoothing), and what
`configs/base.py` promises of each key. A branch on `mistake` breaks the rule
that `case.MISTAKES` names.
"""

import math

import numpy as np
import torch

from tests.reference import augmentation, case, draws
from tests.reference.network import Network

# One array, whatever it is of, by its name.
Numbers = dict[str, np.ndarray]


def run(config: dict) -> Numbers:
  """Trains and evaluates.

  Returns:
    Float64 arrays: 'steps/...' of every step [steps, ...], 'params/...',
    'batch_stats/...', 'ema/params/...', 'ema/batch_stats/...', 'mu/...' and
    'nu/...' after the last, 'evaluation/...'.
  """
  state = _State(config)
  pictures = case.create_pictures('train')
  rows = []
  for step in range(config['training.num_steps']):
    images, labels = augmentation.train_batch(pictures, config, step)
    rows.append(
      {'images': images, 'labels': labels, **state.step(step, images, labels)}
    )
  numbers = {
    f'steps/{name}': np.array([row[name] for row in rows]) for name in rows[0]
  }
  for prefix, arrays in state.collections().items():
    for name, array in arrays.items():
      numbers[f'{prefix}/{name}'] = array.numpy()
  evaluated = _evaluate(state)
  return numbers | {
    f'evaluation/{name}': np.array(value) for name, value in evaluated.items()
  }


class _State:
  """Everything that a step changes, and the step."""

  def __init__(self, config):
    self.config, self.mistake = config, config['mistake']
    self.network = Network(config)
    self.params = _create(self.network.shapes)
    self.statistics = _create(self.network.statistics)
    self.mu = {name: torch.zeros_like(p) for name, p in self.params.items()}
    self.nu = {name: torch.zeros_like(p) for name, p in self.params.items()}
    self.averages = None
    if config['training.ema_decay']:
      self.averages = (dict(self.params), dict(self.statistics))

  def collections(self):
    collections = {
      'params': self.params,
      'batch_stats': self.statistics,
      'mu': self.mu,
      'nu': self.nu,
    }
    if self.averages:
      collections['ema/params'], collections['ema/batch_stats'] = self.averages
    return collections

  def step(self, step, images, labels):
    """Takes one step; returns what is logged of it."""
    key_step = 0 if self.mistake == 'keys are the same at every step' else step
    mixup_key, depth_key = draws.step_keys(self.config['seed'], key_step)
    inputs = _normalise(images, self.config)
    targets = np.eye(case.NUM_CLASSES)[labels]
    inputs, targets = _mix(mixup_key, inputs, targets, self.config)
    loss, grads = self.gradients(inputs, targets, depth_key)
    norm = math.sqrt(sum(float((g**2).sum()) for g in grads.values()))
    ahead = self.mistake == 'the learning rate is a step ahead'
    rate = _learning_rate(step + ahead, self.config)
    self.update(step, grads, norm, rate)
    self.average(step)
    return {'loss': loss, 'gradient_norm': norm, 'learning_rate': rate}

  def gradients(self, inputs, targets, depth_key):
    """Returns mean loss and gradients; moves the running statistics."""
    parts = self.config['training.gradient_accumulation_steps']
    params = {
      name: p.clone().requires_grad_() for name, p in self.params.items()
    }
    total, losses, seen = None, [], []
    for part in range(parts):
      # One example in so many.
      logits, statistics = self.network(
        params,
        self.statistics,
        torch.from_numpy(inputs[part::parts]),
        depth_key,
        part,
      )
      loss = _loss(
        logits,
        torch.from_numpy(targets[part::parts]),
        self.config,
        self.config['loss.label_smoothing'],
      ).mean()
      grads = torch.autograd.grad(loss, list(params.values()))
      losses.append(loss.item())
      seen.append(statistics)
      if (
        total is None
        or self.mistake == 'only the last part of the batch counts'
      ):
        total = grads
      else:
        total = [a + b for a, b in zip(total, grads)]
    if self.mistake not in (
      'gradients of the parts are added up',
      'only the last part of the batch counts',
    ):
      total = [g / parts for g in total]
    self.move_statistics(seen)
    return np.mean(losses), dict(zip(params, total))

  def move_statistics(self, seen):
    """Moves the running statistics towards those of the whole batch."""
    kept = self.config['model.batch_norm_momentum']
    for name in self.statistics:
      new = torch.stack([part[name] for part in seen]).mean(0)
      if name.endswith('/var') and self.mistake != (
        "the parts' means are not in the variance"
      ):
        means = [part[name.removesuffix('var') + 'mean'] for part in seen]
        new = new + torch.stack(means).var(0, unbiased=False)
      self.statistics[name] = kept * self.statistics[name] + (1 - kept) * new

  def update(self, step, grads, norm, rate):
    """AdamW, of clipped gradients."""
    config, mistake = self.config, self.mistake
    limit = config['optimizer.clip_norm']
    if limit and norm > limit:
      grads = {name: g * limit / norm for name, g in grads.items()}
    if mistake == 'the optimizer has a constant learning rate':
      rate = config['schedule.peak_learning_rate']
    b1, b2 = config['optimizer.b1'], config['optimizer.b2']
    moves = {}
    for name, grad in grads.items():
      self.mu[name] = b1 * self.mu[name] + (1 - b1) * grad
      self.nu[name] = b2 * self.nu[name] + (1 - b2) * grad**2
      mean = self.mu[name] / (1 - b1 ** (step + 1))
      square = self.nu[name] / (1 - b2 ** (step + 1))
      move = mean / (square.sqrt() + config['optimizer.eps'])
      if _decays(name, mistake):
        move = move + config['optimizer.weight_decay'] * self.params[name]
      moves[name] = rate * move
    for name, move in moves.items():
      self.params[name] = self.params[name] - move

  def average(self, step):
    """Moves the averages towards parameters and statistics."""
    if not self.averages:
      return
    taken = step + 1
    decay = self.config['training.ema_decay']
    if self.config['training.ema_warmup']:
      decay = min(decay, (1 + taken) / (10 + taken))
    for averages, values in zip(self.averages, (self.params, self.statistics)):
      follows = self.mistake == 'statistics are not averaged' and (
        values is self.statistics
      )
      kept = 0 if follows else decay
      for name, value in values.items():
        averages[name] = kept * averages[name] + (1 - kept) * value


def _create(shapes):
  return {
    name: torch.from_numpy(case.create_array(name, shape).astype(np.float64))
    for name, shape in shapes.items()
  }


def _normalise(images, config):
  mean = np.array(config['preprocessing.mean'])
  deviation = np.array(config['preprocessing.std'])
  return (images / 255 - mean) / deviation


def _mix(key, images, targets, config):
  """MixUp or CutMix of each example with the one before it."""
  alphas = (config['mixup.mixup_alpha'], config['mixup.cutmix_alpha'])
  if not any(alphas):
    return images, targets
  mistake = config['mistake']
  size, height, width, _ = images.shape
  is_cutmix, weights, centres = draws.mixup_draws(
    key, size, (height, width), alphas, config['mixup.cutmix_probability']
  )
  other = 1 if mistake == 'the partner of MixUp is the next example' else -1
  new_images, new_targets = images.copy(), targets.copy()
  for i in range(size):
    partner = (i + other) % size
    keep = np.full((height, width), weights[i])
    if is_cutmix[i]:
      keep = _outside_box(weights[i], centres[i], height, width)
    new_images[i] = (
      keep[..., None] * images[i] + (1 - keep[..., None]) * images[partner]
    )
    weight = keep.mean()
    if mistake == 'boxes of CutMix weigh what was drawn, not what was cut':
      weight = weights[i]
    if mistake != 'labels are not mixed':
      new_targets[i] = weight * targets[i] + (1 - weight) * targets[partner]
  return new_images, new_targets


def _outside_box(weight, centre, height, width):
  """1 outside of a box with 1 - weight of the area, 0 inside."""
  keep = np.ones((height, width))
  # In float32, as weights are drawn: where a side is half a pixel more.
  side = np.sqrt(np.float32(1) - np.float32(weight))
  rows = int(np.rint(side * np.float32(height)))
  columns = int(np.rint(side * np.float32(width)))
  top, left = (int(centre[0]) - rows // 2, int(centre[1]) - columns // 2)
  keep[max(top, 0) : top + rows, max(left, 0) : left + columns] = 0
  return keep


def _loss(logits, targets, config, smoothing):
  """Returns the loss of each example."""
  if config['loss.kind'] == 'softmax':
    targets = targets * (1 - smoothing) + smoothing / case.NUM_CLASSES
    return -(targets * torch.log_softmax(logits, -1)).sum(-1)
  targets = targets * (1 - 2 * smoothing) + smoothing
  yes = torch.nn.functional.logsigmoid(logits)
  no = torch.nn.functional.logsigmoid(-logits)
  return -(targets * yes + (1 - targets) * no).sum(-1)


def _learning_rate(step, config):
  peak = config['schedule.peak_learning_rate']
  end = config['schedule.min_learning_rate']
  warmup = config['schedule.warmup_steps']
  if step < warmup:
    return peak * step / warmup
  done = (step - warmup) / (config['training.num_steps'] - warmup)
  done = min(done, 1.0)
  return {
    'cosine': end + (peak - end) * (1 + math.cos(math.pi * done)) / 2,
    'linear': peak + (end - peak) * done,
    'constant': peak,
  }[config['schedule.decay']]


def _decays(name, mistake):
  """Kernels decay; no bias, norm or table of relative positions does."""
  if mistake == 'everything decays':
    return True
  is_kernel = name.endswith('/kernel')
  inverted = mistake == 'nothing but biases and norms decays'
  return is_kernel != inverted


def _evaluate(state):
  """Returns loss, accuracies and count over the pictures of evaluation."""
  config, mistake = state.config, state.mistake
  params, statistics = state.averages or (state.params, state.statistics)
  if mistake == 'averages are not evaluated':
    params, statistics = state.params, state.statistics
  pictures = case.create_pictures('eval')
  images = [augmentation.eval_image(picture, config) for picture, _ in pictures]
  labels = [label for _, label in pictures]
  if mistake == 'padding counts in evaluation':
    padding = -len(images) % config['evaluation.global_batch_size']
    images += [np.zeros_like(images[0])] * padding
    labels += [0] * padding
  with torch.no_grad():
    logits, _ = state.network(
      params,
      statistics,
      torch.from_numpy(_normalise(np.stack(images), config)),
    )
    smoothing = 0.0
    if mistake == 'labels are smoothed in evaluation':
      smoothing = config['loss.label_smoothing']
    targets = torch.eye(case.NUM_CLASSES, dtype=torch.float64)[labels]
    loss = _loss(logits, targets, config, smoothing)
  rank = (logits > logits.gather(1, torch.tensor(labels)[:, None])).sum(1)
  return {
    'loss': loss.mean().item(),
    'top1': (rank < 1).double().mean().item(),
    'top5': (rank < 5).double().mean().item(),
    'count': len(labels),
  }
