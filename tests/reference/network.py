"""CoAtNet in PyTorch, by the paper's equations and the table of what is ours.

Arrays lie as [B, H, W, C]; parameters are looked up by name. BatchNorm is by
hand, so that the statistics of a part of the batch are at hand.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from tests.reference import case, draws


class Network:
  """The network of `case.STAGES`, as functions of a dictionary of arrays.

  Attributes:
    config: config of the run, of `case.change`.
    shapes: shape of every parameter, by name.
    statistics: shape of every running statistic, by name.
  """

  def __init__(self, config: dict):
    """Lists the arrays' shapes; their values are given at each call."""
    self.config = config
    self.shapes: dict[str, tuple[int, ...]] = {}
    self.statistics: dict[str, tuple[int, ...]] = {}
    height, width = config['preprocessing.image_size']
    first, second = case.STEM_WIDTHS
    self._add('s0_conv_0', (3, 3, 3, first), bias=False)
    self._add_norm('s0_norm', first, batch=True)
    self._add('s0_conv_1', (3, 3, first, second), bias=False)
    grid, channels = (height // 2, width // 2), second
    for name, kind, in_width, out_width, stride in blocks():
      grid = (grid[0] // stride, grid[1] // stride)
      if kind == 'mbconv':
        self._add_mbconv(name, in_width, out_width)
      else:
        self._add_transformer(name, in_width, out_width, grid)
      if in_width != out_width:
        self._add(f'{name}/shortcut/project', (in_width, out_width))
      channels = out_width
    self._add_norm('head_norm', channels)
    self._add('head_pre_logits', (channels, channels))
    self._add('head_logits', (channels, case.NUM_CLASSES))

  def _add(self, name, shape, bias=True):
    self.shapes[f'{name}/kernel'] = shape
    if bias:
      self.shapes[f'{name}/bias'] = shape[-1:]

  def _add_norm(self, name, width, batch=False):
    self.shapes[f'{name}/scale'] = self.shapes[f'{name}/bias'] = (width,)
    if batch:
      self.statistics[f'{name}/mean'] = (width,)
      self.statistics[f'{name}/var'] = (width,)

  def _add_mbconv(self, name, in_width, width):
    hidden, squeezed = 4 * width, width // 4
    self._add_norm(f'{name}/pre_norm', in_width, batch=True)
    self._add(f'{name}/expand', (in_width, hidden), bias=False)
    self._add_norm(f'{name}/expand_norm', hidden, batch=True)
    self._add(f'{name}/depthwise', (3, 3, 1, hidden), bias=False)
    self._add_norm(f'{name}/depthwise_norm', hidden, batch=True)
    self._add(f'{name}/se/squeeze', (hidden, squeezed))
    self._add(f'{name}/se/excite', (squeezed, hidden))
    self._add(f'{name}/shrink', (hidden, width))

  def _add_transformer(self, name, in_width, width, grid):
    heads = width // case.HEAD_DIM
    qkv = (3, heads, case.HEAD_DIM)
    self._add_norm(f'{name}/attention_norm', in_width)
    self.shapes[f'{name}/attention/qkv/kernel'] = (in_width, *qkv)
    self.shapes[f'{name}/attention/qkv/bias'] = qkv
    self.shapes[f'{name}/attention/relative_position_bias_table'] = (
      heads,
      2 * grid[0] - 1,
      2 * grid[1] - 1,
    )
    self._add(f'{name}/attention/out', (width, width))
    self._add_norm(f'{name}/ffn_norm', width)
    self._add(f'{name}/ffn_expand', (width, 4 * width))
    self._add(f'{name}/ffn_shrink', (4 * width, width))

  def __call__(self, params, statistics, images, depth_key=None, part=0):
    """Returns logits [B, K] and, in training, the batch's mean and variance.

    Args:
      params: parameters by name, float64.
      statistics: running statistics by name, for evaluation.
      images: normalised pictures, [B, H, W, 3] float64.
      depth_key: key of stochastic depth at this step; None in evaluation.
      part: number of the part of the batch.
    """
    run = _Forward(self.config, params, statistics, depth_key, part)
    x = run.conv(images, 's0_conv_0', stride=2)
    x = _gelu(run.batch_norm(x, 's0_norm'))
    x = run.conv(x, 's0_conv_1', stride=1)
    for index, (name, kind, in_width, width, stride) in enumerate(blocks()):
      block = run.mbconv if kind == 'mbconv' else run.transformer
      x = block(x, name, stride, in_width != width, index)
    x = run.layer_norm(x.mean((1, 2)), 'head_norm')
    x = torch.tanh(run.dense(x, 'head_pre_logits'))
    return run.dense(x, 'head_logits'), run.batch_statistics


def blocks():
  """Yields name, kind, widths of input and output, and stride of each block."""
  in_width = case.STEM_WIDTHS[-1]
  for number, (kind, count, width, stride) in enumerate(case.STAGES, 1):
    for index in range(count):
      name = f's{number}_block_{index}'
      yield name, kind, in_width, width, 1 if index else stride
      in_width = width


class _Forward:
  """One pass through the network."""

  def __init__(self, config, params, statistics, depth_key, part):
    self.config, self.params, self.statistics = config, params, statistics
    self.depth_key, self.part = depth_key, part
    self.batch_statistics = {}

  def mbconv(self, x, name, stride, widens, index):
    shortcut = self.shortcut(x, name, stride, widens)
    y = self.batch_norm(x, f'{name}/pre_norm')
    y = self.dense(y[:, ::stride, ::stride], f'{name}/expand')
    y = _gelu(self.batch_norm(y, f'{name}/expand_norm'))
    y = self.conv(y, f'{name}/depthwise', stride=1)
    y = _gelu(self.batch_norm(y, f'{name}/depthwise_norm'))
    gate = self.dense(y.mean((1, 2)), f'{name}/se/squeeze')
    gate = self.dense(gate * torch.sigmoid(gate), f'{name}/se/excite')
    y = y * torch.sigmoid(gate)[:, None, None]
    return shortcut + self.drop(self.dense(y, f'{name}/shrink'), index, 0)

  def transformer(self, x, name, stride, widens, index):
    shortcut = self.shortcut(x, name, stride, widens)
    y = _max_pool(self.layer_norm(x, f'{name}/attention_norm'), stride)
    y = self.attention(y, f'{name}/attention')
    x = shortcut + self.drop(y, index, 0)
    y = self.layer_norm(x, f'{name}/ffn_norm')
    y = _gelu(self.dense(y, f'{name}/ffn_expand'))
    y = self.dense(y, f'{name}/ffn_shrink')
    return x + self.drop(y, index, 1)

  def shortcut(self, x, name, stride, widens):
    x = _max_pool(x, stride)
    return self.dense(x, f'{name}/shortcut/project') if widens else x

  def attention(self, x, name):
    size, height, width, _ = x.shape
    kernel = self.params[f'{name}/qkv/kernel']
    bias = self.params[f'{name}/qkv/bias']
    tokens = x.reshape(size, height * width, -1)
    qkv = (
      torch.einsum('bnc,cthd->tbhnd', tokens, kernel) + bias[:, None, :, None]
    )
    q, k, v = qkv
    table = self.params[f'{name}/relative_position_bias_table']
    rows, columns = np.divmod(np.arange(height * width), width)
    row_offset = rows[:, None] - rows[None] + height - 1
    column_offset = columns[:, None] - columns[None] + width - 1
    logits = q @ k.transpose(-1, -2) / math.sqrt(case.HEAD_DIM)
    weights = torch.softmax(logits + table[:, row_offset, column_offset], -1)
    y = (weights @ v).transpose(1, 2).reshape(size, height, width, -1)
    return self.dense(y, f'{name}/out')

  def dense(self, x, name):
    y = x @ self.params[f'{name}/kernel']
    bias = self.params.get(f'{name}/bias')
    return y if bias is None else y + bias

  def conv(self, x, name, stride):
    kernel = self.params[f'{name}/kernel'].permute(3, 2, 0, 1)
    groups = x.shape[-1] // kernel.shape[1]
    x = F.conv2d(
      x.permute(0, 3, 1, 2), kernel, stride=stride, padding=1, groups=groups
    )
    return x.permute(0, 2, 3, 1)

  def layer_norm(self, x, name):
    return F.layer_norm(
      x,
      x.shape[-1:],
      self.params[f'{name}/scale'],
      self.params[f'{name}/bias'],
      1e-5,
    )

  def batch_norm(self, x, name):
    if self.depth_key is None:
      mean = self.statistics[f'{name}/mean']
      var = self.statistics[f'{name}/var']
    else:
      size = self.config['model.batch_norm_group_size'] or len(x)
      groups = x.reshape(-1, size, *x.shape[1:])
      mean = groups.mean((1, 2, 3))
      var = groups.var((1, 2, 3), unbiased=False)
      with torch.no_grad():
        axes = (0, 1, 2)
        self.batch_statistics[f'{name}/mean'] = x.mean(axes)
        self.batch_statistics[f'{name}/var'] = x.var(axes, unbiased=False)
      mean, var = (
        s.repeat_interleave(size, 0)[:, None, None] for s in (mean, var)
      )
    x = (x - mean) / torch.sqrt(var + 1e-3)
    return x * self.params[f'{name}/scale'] + self.params[f'{name}/bias']

  def drop(self, y, block, branch):
    """Drops a residual branch for some examples; grows with the block."""
    if self.depth_key is None:
      return y
    mistake = self.config['mistake']
    rate = self.config['model.stochastic_depth_rate']
    keep = 1 - rate * block / sum(count for _, count, _, _ in case.STAGES)
    if mistake == 'all blocks have one key':
      block = 0
    if mistake == 'both branches of a block have one key':
      branch = 0
    part = 0 if mistake == 'all parts of the batch have one key' else self.part
    kept = draws.kept_branches(
      self.depth_key, part, block, branch, keep, len(y)
    )
    factor = torch.from_numpy(kept.astype(np.float64))[:, None, None, None]
    if mistake == 'a dropped branch is not made up for':
      keep = 1
    return y * factor / keep


def _gelu(x):
  return F.gelu(x, approximate='tanh')


def _max_pool(x, stride):
  if stride == 1:
    return x
  return F.max_pool2d(x.permute(0, 3, 1, 2), stride).permute(0, 2, 3, 1)
