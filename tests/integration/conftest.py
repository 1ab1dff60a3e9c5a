"""Options of test_every_script.py, the table at its end, and how it is spread over processes."""

import json
from pathlib import Path

import pytest


def pytest_addoption(parser):
    group = parser.getgroup('test_every_script.py')
    group.addoption('--device', default='cpu', help='as of the scripts (default: cpu)')
    group.addoption('--simulate', action='store_true', help='with --device npu: cards of tests/cannsim')
    group.addoption('--ranks', type=int, default=8, metavar='N', help='of the scripts for eight (default: 8)')
    group.addoption('--chip', default='Ascend910B3', help='with --simulate: Ascend910B3 or Ascend910A')
    group.addoption(
        '--python', metavar='FILE', help='the interpreter that runs the scripts (default: the one of the tests)'
    )
    group.addoption('--folders', nargs='+', metavar='WORD', help='only folders whose name contains one of these')
    group.addoption('--scripts', nargs='+', metavar='WORD', help='only rows whose name contains one of these')
    group.addoption(
        '--baseline', type=Path, metavar='FILE', help='compare FPS and accuracy with the file; -n 0 for true FPS'
    )
    group.addoption(
        '--rebase', action='store_true', help='write the figures of the green rows to the file of --baseline'
    )


def named(config):
    return any('test_every_script' in str(argument) for argument in config.args)


def pytest_ignore_collect(collection_path, config):
    """It takes minutes: only where its file is named."""
    return True if collection_path.name == 'test_every_script.py' and not named(config) else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """The rows of a folder stay in one process and in their order; xdist's own loadgroup does nothing with pytest 9.2."""
    if not named(config):
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return nodeid.partition('[')[2].rpartition('-')[0]

    return ByFolder(config, log)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter, config):
    reports = [report for kind in ('passed', 'failed') for report in terminalreporter.stats.get(kind, [])]
    rows = [dict(report.user_properties) for report in reports if 'script' in dict(report.user_properties)]
    for row in sorted(rows, key=lambda row: row['folder']):
        said = row['problems'] or 'ok'
        figures = f'{row["seconds"]:7.1f} s {row["fps"] or "-":>9} img/s {row["acc"] or "-":>8} %'
        terminalreporter.write_line(f'{row["folder"]:<34} {row["script"]:<16} {figures}  {said}')
    if rows:
        green = sum(not row['problems'] for row in rows)
        terminalreporter.write_line(f'{green} of {len(rows)} rows are green')
    if config.getoption('rebase', False):
        rebase(rows, config.getoption('baseline'), config.getoption('device'))


def rebase(rows, path, device):
    """Writes the figures of the green rows to the file; those of other rows and devices stay."""
    stored = json.loads(path.read_text()) if path.is_file() else {}
    for row in rows:
        if not row['problems']:
            stored.setdefault(device, {})[f'{row["folder"]} {row["script"]}'] = json.loads(row['figures'])
    path.write_text(json.dumps(stored, indent=1, sort_keys=True) + '\n')
