"""ci/smoke.py itself: what is broken is red, and nothing else is."""
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

from conftest import TOP, VAN, smoke

import smoke_report

CONVMIXER = 'ConvMixer_for_PyTorch'


def test_a_broken_folder_is_one_red_row(tmp_path):
    """The other folder's row stays green; the table, the JSON and the JUnit file agree, and so does the exit status."""
    top = tmp_path / 'top'
    for name in (VAN, CONVMIXER):
        smoke.copy_alone(name, top)
    with open(top / VAN / 'models' / 'van.py', 'a') as f:
        f.write('\nraise RuntimeError("broken on purpose")\n')
    done = subprocess.run([sys.executable, TOP / 'ci' / 'smoke.py', '--top', top, '--folders', 'VAN', 'ConvMixer', '--scripts',
                           'performance_1p', '--jobs', '2', '--out', tmp_path / 'out'], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 1 and '1 of 2 rows are green' in done.stdout
    rows = {row['folder']: row['problems'] for row in json.loads((tmp_path / 'out' / 'smoke.json').read_text())}
    assert rows[CONVMIXER] == [] and 'broken on purpose' in rows[VAN][0]
    suite = ElementTree.parse(tmp_path / 'out' / 'smoke.xml').getroot()
    assert suite.get('tests') == '2' and suite.get('failures') == '1'
    red = [case.get('classname') for case in suite if case.find('failure') is not None]
    assert red == [VAN]


def row(**changes):
    return dict(dict(folder=VAN, script='performance_1p', seconds=1., fps='50.00', acc='20.0', reference_fps=100., problems=[]), **changes)


def test_baseline_compares_ratios_and_accuracies(tmp_path):
    """A machine half as fast changes nothing; a folder half as fast, a lost number or lower accuracy is red."""
    path = tmp_path / 'baseline.json'
    smoke_report.rebase([row(), row(script='full_1p', fps='N/A', reference_fps=None, acc='90.0')], path, 'cpu')
    for changes, red in (({}, False), ({'fps': '25.00', 'reference_fps': 50.}, False), ({'fps': '25.00'}, True), ({'fps': 'N/A'}, True),
                         ({'acc': '14.9'}, True), ({'script': 'full_1p', 'acc': '86'}, False), ({'script': 'full_1p', 'acc': 'N/A'}, True),
                         ({'script': 'eval_1p'}, True)):
        rows = [row(**changes)]
        smoke_report.compare(rows, path, 'cpu')
        assert bool(rows[0]['problems']) == red, changes
    smoke_report.rebase([row(fps='80.00'), row(script='eval_1p', problems=['exit 1'])], path, 'cpu')
    stored = json.loads(path.read_text())['cpu']
    assert stored == {VAN + ' performance_1p': {'fps_ratio': .8, 'acc': 20.}, VAN + ' full_1p': {'acc': 90.}}


def test_reference_network_is_measured():
    assert smoke_report.reference_fps(sys.executable, 'cpu', smoke.environment(sys.executable)) > 0
