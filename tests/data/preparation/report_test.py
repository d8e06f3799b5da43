from coatnet_jax.data.preparation import report


def test_the_report_counts_reasons():
  rows = [['a.jpg', 'empty file'], ['b.jpg', 'empty file'], ['c.jpg', 'other']]
  split = {
    'num_examples': 1,
    'num_shards': 1,
    'num_bytes': 2,
    'changed': [],
    'dropped': rows,
  }
  summary = {'name': 'x', 'num_classes': 1, 'notes': [], 'splits': {'s': split}}
  lines = [line.split() for line in report.format_text(summary).splitlines()]
  assert ['dropped:', '3'] in lines
  assert ['2', 'empty', 'file'] in lines
  assert ['1', 'other'] in lines
