from benchmarks import serving_load
from tests.serving.running import create_picture, start


def test_what_is_late_and_what_fails_is_in_the_figures(tmp_path, capsys):
  path = tmp_path / 'a.png'
  path.write_bytes(create_picture())
  with start() as running:
    arguments = [
      f'--url=http://127.0.0.1:{running.port}/predict',
      '--rate=40',
      '--seconds=0.5',
      str(path),
    ]
    assert serving_load.main(arguments) == 0
    assert '0 not answered with 200' in capsys.readouterr().out
    # An open loop: those that come meanwhile wait as well.
    running.model.seconds = 0.3
    client = serving_load.Client(arguments[0][6:], [create_picture()])
    found = serving_load.run(client, 40, 0.5)
    assert found['not_200'] == 0
    assert found['p99_ms'] > 300
    path.write_bytes(b'no picture')
    assert serving_load.main(arguments) == 1
  assert "{'415': " in capsys.readouterr().out
