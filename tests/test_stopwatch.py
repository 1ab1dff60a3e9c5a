"""What a run says of its speed, against a clock held outside; and what it draws on a terminal."""
import json
import os
import pty
import re
import sys
import time
from pathlib import Path

import pytest
from conftest import SMALL, VAN, run, smoke, start


def test_fps_agrees_with_a_stopwatch(few_digits, tmp_path):
    """Each step sleeps a quarter of a second, which outweighs this machine's noise; within 2 %."""
    folder = smoke.copy_alone(VAN, tmp_path)
    text = (folder / 'train.py').read_text()
    sleepy = ('\ndef sleepy(*args, **kwargs):\n    import time\n    model = create_model(*args, **kwargs)\n'
              '    model.register_forward_pre_hook(lambda *_: time.sleep(.25))\n    return model\n\n\nif __name__')
    (folder / 'train.py').write_text(text.replace('\nif __name__', sleepy).replace('Hooks(create_model,', 'Hooks(sleepy,'))
    process = start(folder / 'test' / 'train_full_1p.sh', '--data_path=%s' % few_digits, *SMALL, '--batch-size=4', '--print-freq=1',
                    '--epochs=1', '--max-steps=24', '--warmup-steps=4', '--eval-steps=1', '--output_dir=%s' % (tmp_path / 'out'))
    at, said = {}, []
    for line in process.stdout:
        said.append(line)
        step = re.match(r'Train: 0 \[ *(\d+)/24', line)
        if step:
            at[int(step.group(1))] = time.perf_counter()
    assert process.wait() == 0, ''.join(said)
    stopwatch = 20 * 4 / (at[24] - at[4])
    measured = float(re.search(r'Final Performance images/sec : ([\d.]+)', ''.join(said)).group(1))
    assert measured == pytest.approx(stopwatch, rel=.02)


def test_a_terminal_gets_a_bar_and_the_log_does_not(folder, few_digits, tmp_path):
    pytest.importorskip('tqdm')
    script = folder / 'test' / 'train_performance_1p.sh'
    command = ['bash', script, '--data_path=%s' % few_digits, *SMALL, '--batch-size=4', '--max-steps=4', '--output_dir=%s' % tmp_path]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(smoke.environment(sys.executable))
        os.system('stty cols 100 rows 30')
        os.execvp('bash', list(map(str, command)))
    said = b''
    try:
        while True:
            said += os.read(terminal, 65536)
    except OSError:                       # Linux says so when the other side has closed
        os.close(terminal)
    assert os.waitpid(pid, 0)[1] == 0, said.decode()
    assert b'epoch 1 of 1:' in said and b'Final Train Accuracy' in said
    assert 'epoch 1 of 1' not in (Path(tmp_path) / 'train_0.log').read_text()


def test_tensorboard_files(folder, few_digits, tmp_path):
    """The event files hold the numbers of metrics.jsonl; without the package one sentence says what to install."""
    script, arguments = folder / 'test' / 'train_full_1p.sh', ['--data_path=%s' % few_digits, *SMALL, '--batch-size=4', '--tensorboard',
                                                               '--epochs=2', '--max-steps=4']
    blocked = tmp_path / 'path' / 'tensorboard'
    blocked.mkdir(parents=True)
    (blocked / '__init__.py').write_text('raise ImportError("no tensorboard here")')
    result = run(script, *arguments, out=tmp_path / 'a', PYTHONPATH=str(blocked.parent))
    assert result.code == 1 and 'pip install tensorboard' in result.text and 'Traceback' not in result.text
    event_accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    assert run(script, *arguments, out=tmp_path / 'b').code == 0
    events = event_accumulator.EventAccumulator(str(tmp_path / 'b' / 'tensorboard')).Reload()
    metrics = [json.loads(line) for line in (tmp_path / 'b' / 'metrics.jsonl').read_text().splitlines()]
    for group, name in (('train', 'loss'), ('eval', 'acc1')):
        written = [m[name] for m in metrics if m['event'] == group]
        assert [e.value for e in events.Scalars('%s/%s' % (group, name))] == pytest.approx(written)
