"""The tables that figures of attention are printed in."""

from typing import Any

# The width of each column by its title; negative where it is left-aligned.
_CASE_COLUMNS = {
  'grid': 6,
  'batch': 5,
  'heads': 5,
  'dim': 3,
  'direction': -16,
  'implementation': -14,
}
ESTIMATED_COLUMNS = {
  'chip': -4,
  **_CASE_COLUMNS,
  'Mcycles': 8,
  'kernels': 8,
  'ms': 7,
  'of XLA': 6,
  'HBM MB': 8,
  'temp MB': 8,
  'floors: product': 15,
  'HBM': 6,
  'note': -1,
}
MEASURED_COLUMNS = {
  'device': -12,
  **_CASE_COLUMNS,
  'ms': 9,
  'of XLA': 6,
}
TRAIN_STEP_COLUMNS = {
  'chip': -4,
  'implementation': -14,
  'Mcycles': 8,
  'ms': 7,
  'attention': 9,
  'share': 6,
  'beside it': 9,
  'kernels': 8,
  'HBM MB': 8,
  'temp MB': 8,
}


def format_line(widths: dict[str, int], columns: dict[str, str]) -> str:
  """Returns the columns in a line; a negative width is of a left one."""
  return '  '.join(
    columns.get(name, '').ljust(-width)
    if width < 0
    else columns.get(name, '').rjust(width)
    for name, width in widths.items()
  ).rstrip()


def format_row(row: dict[str, Any]) -> dict[str, str]:
  """Returns an object of --json as texts, by the titles of their columns."""
  formats = {
    'Mcycles': ('cycles', 1e-6, '.3f'),
    'kernels': ('kernel_cycles', 1e-6, '.3f'),
    'ms': ('milliseconds', 1, '.3f'),
    'of XLA': ('of_xla', 1, '.3f'),
    'HBM MB': ('hbm_bytes', 1e-6, ',.0f'),
    'temp MB': ('temporary_bytes', 1e-6, ',.0f'),
    'floors: product': ('product_floor_cycles', 1e-6, '.3f'),
    'HBM': ('hbm_floor_cycles', 1e-6, '.3f'),
    'attention': ('attention_cycles', 1e-6, '.3f'),
    'share': ('attention_share', 1, '.1%'),
    'beside it': ('beside_attention_cycles', 1e-6, '.3f'),
  }
  texts = {
    title: format(row[key] * unit, form)
    for title, (key, unit, form) in formats.items()
    if row.get(key) is not None
  }
  texts |= {
    name: str(row[name])
    for name in ('chip', 'device', 'batch', 'heads', 'direction')
    if name in row
  }
  if 'grid' in row:
    texts['grid'] = 'x'.join(map(str, row['grid']))
    texts['dim'] = str(row['head_dim'])
  texts['implementation'] = row['implementation']
  if row.get('cycles', 0) is None:
    texts['note'] = f'does not fit: needs {row["needed_bytes"] / 1e9:.1f} GB'
  return texts
