"""What became of the images: for a reader, and for a program."""

import collections

from coatnet_jax import strict_json
from coatnet_jax.data.image_source import format_count
from coatnet_jax.data.preparation.shards import WrittenShard


def summarize(
  name: str,
  class_names: tuple[str, ...],
  shards: dict[str, list[WrittenShard]],
  notes: tuple[str, ...],
) -> dict:
  """Adds up what was written.

  Args:
    name: name of the data set, with its version.
    class_names: names of the classes, each at the place of its label.
    shards: finished shards of each split, in order.
    notes: lines about what was left out before an image was read.

  Returns:
    What report.json has; the same for the same images.
  """
  splits = {}
  for split, written in shards.items():
    splits[split] = {
      'num_examples': sum(shard.num_examples for shard in written),
      'num_shards': len(written),
      'num_bytes': sum(shard.file_bytes for shard in written),
      'changed': sorted(row for shard in written for row in shard.changed),
      'dropped': sorted(row for shard in written for row in shard.dropped),
    }
  return {
    'name': name,
    'num_classes': len(class_names),
    'notes': list(notes),
    'splits': splits,
  }


def format_json(summary: dict) -> str:
  """Returns report.json."""
  return strict_json.to_json(summary, indent=1) + '\n'


def format_text(summary: dict) -> str:
  """Returns report.txt: totals, then a line for each image that differs."""
  lines = [
    f'{summary["name"]}, {format_count(summary["num_classes"], "class")}'
  ]
  lines += summary['notes']
  for split, found in summary['splits'].items():
    lines.append('')
    lines.append(
      f'{split}: {format_count(found["num_examples"], "image")} in'
      f' {format_count(found["num_shards"], "shard")},'
      f' {found["num_bytes"]:,} bytes'
    )
    for title in ('changed', 'dropped'):
      rows = found[title]
      lines.append(f'{title}: {len(rows):,}')
      reasons = collections.Counter(reason for _, reason in rows)
      lines += [f'{n:>8,}  {reason}' for reason, n in reasons.most_common(20)]
    for title in ('changed', 'dropped'):
      lines += [
        f'{title} {row_name}: {reason}' for row_name, reason in found[title]
      ]
  return '\n'.join(lines) + '\n'
