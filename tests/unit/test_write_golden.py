"""The writer of golden records: of our VAN it writes what was once measured on upstream's code, and the checker sees a change."""

import copy
import json
import subprocess
import sys

import pytest

from helpers import TOP, VAN, environment, in_folder

GOLDEN = TOP / 'tests' / 'data' / 'golden'


def compared(written, stored):
    """-> what the checker says is wrong with one record, measured against another; only of gradients that both have."""
    sys.path.insert(0, str(GOLDEN))
    import check_golden

    found = list(check_golden.compare_structure(written, stored))
    for fill, wanted in stored['fills'].items():
        both = {
            k: v for k, v in wanted.get('grad_norms', {}).items() if k in written['fills'][fill].get('grad_norms', {})
        }
        found += check_golden.compare_numbers(written['fills'][fill], dict(wanted, grad_norms=both))
    return [what for holds, what, _ in found if not holds]


@pytest.fixture(scope='module')
def record(tmp_path_factory):
    path = tmp_path_factory.mktemp('golden') / 'van_b0.json'
    command = [sys.executable, GOLDEN / 'write_golden.py', path, '--factory', 'train:create_model', '--path', TOP / VAN]
    command += ['--kwargs', '{"name": "van_b0"}', '--family', 'van', '--note', 'ours']
    done = subprocess.run(list(map(str, command)), env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path


def test_the_writer_writes_what_was_measured_on_upstream(record):
    written, stored = json.loads(record.read_text()), json.loads((GOLDEN / 'van_b0.json').read_text())
    assert (written['family'], written['model'], written['note']) == ('van', 'van_b0', 'ours')
    assert set(stored) - set(written) <= {'modelzoo_trains_it', 'noise'}
    gradients = [sorted(one['fills']['B']['grad_norms']) for one in (written, stored)]
    assert [len(names) for names in gradients] == [5, 5]
    assert in_folder(VAN, compared, written, stored) == []


def test_the_checker_takes_the_written_record_and_sees_a_change(record, tmp_path):
    written = json.loads(record.read_text())
    other = copy.deepcopy(written)
    other['fills']['A']['logits10'][0][0] *= 1.01
    other['fills']['B']['grad_norms']['head.weight'] *= 1.01
    other['norm_eps'] = dict.fromkeys(other['norm_eps'], 1e-6)
    assert in_folder(VAN, compared, written, other) == ['norm eps', 'logits', 'grad']
    command = [
        sys.executable,
        GOLDEN / 'check_golden.py',
        record,
        '--factory',
        'train:create_model',
        '--path',
        TOP / VAN,
    ]
    done = subprocess.run(list(map(str, command)), env=environment(), capture_output=True, text=True)
    assert done.returncode == 0 and 'all checks hold' in done.stdout, done.stdout + done.stderr
