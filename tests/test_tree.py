"""The tree: generated copies, what a folder may import, and the syntax floor."""
import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import FOLDERS, TOP

SHIPPED = sorted(p for name in ['common'] + FOLDERS for p in (TOP / name).rglob('*.py') if 'output' not in p.parts)
FREE = {'torch', 'timm', 'torchvision', 'numpy', 'PIL', 'torch_npu', 'apex', 'common', 'safetensors'}


def sync(*arguments):
    return subprocess.run([sys.executable, TOP / 'ci' / 'sync_common.py', *map(str, arguments)], capture_output=True, text=True)


def test_copies_of_common_are_current():
    done = sync('--check')
    assert done.returncode == 0, done.stdout


def test_check_sees_every_kind_of_difference(tmp_path):
    (tmp_path / 'A_for_PyTorch').mkdir()
    shutil.copytree(TOP / 'common', tmp_path / 'common')
    assert sync('--top', tmp_path).returncode == 0
    copy = tmp_path / 'A_for_PyTorch' / 'common'
    (copy / 'engine.py').write_text('edited')
    (copy / 'stray.py').write_text('')
    (copy / 'data.py').unlink()
    done = sync('--check', '--top', tmp_path)
    assert done.returncode == 1
    assert [line.split(';')[0].split('/common/')[1] for line in done.stdout.splitlines()] == [
        'data.py: missing', 'engine.py: differs', 'stray.py: not in common/']
    assert sync('--top', tmp_path).returncode == 0 and not (copy / 'stray.py').exists()
    assert sync('--top', tmp_path / 'common').returncode == 1


@pytest.mark.parametrize('path', SHIPPED, ids=lambda p: str(p.relative_to(TOP)))
def test_python_3_7_syntax_and_imports(path):
    """Compiles as 3.7, and imports nothing but the standard library, the packages of requirements.txt and the folder."""
    tree = ast.parse(path.read_text(), feature_version=(3, 7))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0}
    folder = TOP / path.relative_to(TOP).parts[0]
    own = {entry.stem for entry in folder.iterdir()} if folder.name != 'common' else set()
    outside = {name.split('.')[0] for name in names} - FREE - own - set(sys.stdlib_module_names)
    assert not outside


def test_devices_are_named_in_one_place():
    """Outside accelerator.py and npu_patch.py the vendors stand in options, messages and comments only."""
    for path in SHIPPED:
        if path.name in ('accelerator.py', 'npu_patch.py'):
            continue
        tree = ast.parse(path.read_text())
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        vendors = {name for name in used if re.search('npu|cuda', name, re.I)}
        assert not vendors - {'cuda'} or path.name == 'train.py', (path, vendors)
        assert 'cuda' not in vendors or path.name == 'compat.py', path


@pytest.mark.parametrize('name', FOLDERS)
def test_a_folder_has_what_it_needs(name):
    for wanted in ('README.md', 'LICENSE', 'public_address_statement.md', 'requirements.txt', '1.5_requirements.txt',
                   '1.8_requirements.txt', 'npu_requirements.txt', 'train.py', 'npu_patch.py'):
        assert (TOP / name / wanted).is_file(), wanted
    for script in ['train_%s_%s.sh' % (case, ranks) for case in ('full', 'performance', 'eval') for ranks in ('1p', '8p')]:
        assert subprocess.run(['bash', '-n', TOP / name / 'test' / script]).returncode == 0


def test_the_train_files_share_nothing_but_imports():
    """No block of six lines stands in two of them; each is short."""
    seen = {}
    for name in FOLDERS:
        lines = [line.strip() for line in (TOP / name / 'train.py').read_text().splitlines()]
        assert len(lines) < 150
        lines = [line for line in lines if line and not line.startswith(('import ', 'from '))]
        for block in {tuple(lines[i:i + 6]) for i in range(len(lines) - 5)}:
            assert seen.setdefault(block, name) == name, block


def test_shell_scripts_parse():
    for script in [*TOP.glob('ci/*.sh'), *TOP.glob('common/*.sh'), TOP / '.ci' / 'run']:
        assert subprocess.run(['bash', '-n', script]).returncode == 0, script


def test_no_address_is_undeclared():
    """Every address in a folder stands in its public_address_statement.md."""
    for name in FOLDERS:
        declared = (TOP / name / 'public_address_statement.md').read_text()
        for path in Path(TOP / name).rglob('*'):
            if path.suffix in ('.py', '.sh', '.txt') and 'output' not in path.parts:
                for address in re.findall(r'https?://[\w./-]+[\w/]', path.read_text()):
                    assert address in declared, (path, address)
