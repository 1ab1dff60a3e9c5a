"""The tree: generated copies, what a folder may import, and the syntax floor."""
import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import versions
from conftest import FOLDERS, TOP

SHIPPED = sorted(p for name in ['common'] + FOLDERS for p in (TOP / name).rglob('*.py') if 'output' not in p.parts)
FREE = {'torch', 'timm', 'torchvision', 'numpy', 'PIL', 'torch_npu', 'apex', 'common', 'safetensors', 'tqdm'}


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


def test_python_3_7_itself_compiles_them():
    """Where that interpreter is: ast lets some of the newer syntax pass, such as f'{x=}'."""
    python = versions.find_python(('3.7',))
    if python is None:
        pytest.skip('no Python 3.7 was found (pyenv install 3.7): the syntax was checked by ast alone')
    code = 'import sys\nfor path in sys.argv[1:]: compile(open(path, encoding="utf-8").read(), path, "exec")'
    done = subprocess.run([python, '-c', code, *SHIPPED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_versions_are_told_apart_in_one_place():
    """compat.py asks what there is. Elsewhere a version is quoted in a sentence, and compared (compat.TORCH) for the vendor's
    parts only, whose names cannot tell; torchrun.py imports neither torch nor compat.py before it must."""
    for path in SHIPPED:
        if path.name == 'compat.py':
            continue
        nodes = list(ast.walk(ast.parse(path.read_text())))
        quoted = {id(part) for node in nodes if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) for part in ast.walk(node)}
        names = {node.attr for node in nodes if isinstance(node, ast.Attribute) and id(node) not in quoted}
        assert not names & {'__version__', 'version_info', 'TORCH_VERSION'}, path
        names |= {node.id for node in nodes if isinstance(node, ast.Name)}
        assert 'TORCH' not in names or path.name in ('accelerator.py', 'patches.py'), path
        asked = [ast.dump(node.args[0]) for node in nodes if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'hasattr']
        assert path.name == 'accelerator.py' or not re.search("id='(torch|dist|timm|np|F|nn)'", ' '.join(asked)), path


def test_devices_are_named_in_one_place():
    """Outside accelerator.py and npu_patch.py the vendors stand in options, messages and comments only: no name, no import
    and no comparison has them (but for the option --npu-patch and the file of that name)."""
    vendor = re.compile(r'\bnpu|npu\b|_npu|cuda|hccl|nccl|\bacl\b', re.I)
    for path in SHIPPED:
        if path.name in ('accelerator.py', 'npu_patch.py'):
            continue
        used = set()
        for node in ast.walk(ast.parse(path.read_text())):
            used.update([node.id] if isinstance(node, ast.Name) else [node.attr] if isinstance(node, ast.Attribute) else [])
            used.update([alias.name for alias in node.names] + [getattr(node, 'module', None) or '']
                        if isinstance(node, (ast.Import, ast.ImportFrom)) else [])
            compared = [node.left] + node.comparators if isinstance(node, ast.Compare) else []
            used.update(str(part.value) for part in compared if isinstance(part, ast.Constant))
        assert not {name for name in used - {'npu_patch'} if vendor.search(name)}, path


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
