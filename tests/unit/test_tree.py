"""What protects users of a copied-away folder: its copies are current, it is complete, and it needs no more than it says."""

import ast
import re
import subprocess
import sys

import pytest

import versions
from helpers import FOLDERS, TOP, describe

SHIPPED = sorted(p for name in ['common', *FOLDERS] for p in (TOP / name).rglob('*.py') if 'output' not in p.parts)
# the packages of requirements.txt, what comes with them, and what is imported only where it is there
PACKAGES = set(
    'torch timm torchvision numpy PIL torch_npu apex common safetensors simplejpeg tqdm sklearn matplotlib onnx onnxruntime'.split()
)
# a vendor's name; files that may have it, because they are what knows the vendor
VENDOR = re.compile(r'\bnpu|npu\b|_npu|cuda|hccl|nccl|\bacl\b', re.I)
KNOW_VENDORS = ('accelerator.py', 'npu_kernels.py', 'npu_patch.py', 'npu_patches.py')


def imported(tree):
    """-> the packages that a module imports, but for its own."""
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0}
    return {name.split('.')[0] for name in names}


def used_names(tree):
    """-> what a module computes with: names, attributes, imports and what it compares with; no comments, messages, options."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from [alias.name for alias in node.names]
            yield getattr(node, 'module', None) or ''
        elif isinstance(node, ast.Compare):
            yield from (str(part.value) for part in [node.left, *node.comparators] if isinstance(part, ast.Constant))


def test_generated_files_are_current():
    done = subprocess.run([sys.executable, TOP / 'ci' / 'sync_common.py', '--check'], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize('name', ['common', *FOLDERS])
def test_python_3_7_syntax_and_imports(name):
    """Compiles as 3.7, and imports nothing but the standard library, the packages of requirements.txt and the folder."""
    own = {entry.stem for entry in (TOP / name).iterdir()} if name != 'common' else set()
    for path in SHIPPED:
        if path.relative_to(TOP).parts[0] == name:
            tree = ast.parse(path.read_text(), filename=str(path), feature_version=(3, 7))
            assert not imported(tree) - PACKAGES - own - set(sys.stdlib_module_names), path


def test_python_3_7_itself_compiles_them():
    """Where that interpreter is: ast lets some of the newer syntax pass, such as f'{x=}'."""
    python = versions.find_python(('3.7',))
    if python is None:
        pytest.skip('no Python 3.7 was found (pyenv install 3.7): the syntax was checked by ast alone')
    code = 'import sys\nfor path in sys.argv[1:]: compile(open(path, encoding="utf-8").read(), path, "exec")'
    done = subprocess.run([python, '-c', code, *SHIPPED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_vendors_are_named_in_one_place():
    """A new device, or a new vendor's package, changes accelerator.py, npu_kernels.py and the npu_patches only."""
    for path in SHIPPED:
        if path.name not in KNOW_VENDORS:
            names = set(used_names(ast.parse(path.read_text()))) - {'npu_patch', 'npu_patches', 'common.npu_patches'}
            assert not {name for name in names if VENDOR.search(name)}, path


@pytest.mark.parametrize('name', FOLDERS)
def test_a_folder_has_what_it_needs(name):
    """Its own files, its description, and a README and address statement that say what is there."""
    folder, about = TOP / name, describe(name)
    for wanted in ('README.md', 'public_address_statement.md', 'train.py', 'npu_patch.py'):
        assert (folder / wanted).is_file(), wanted
    texts = ('model', 'other_model', 'checkpoint_key', 'checkpoint_option')
    assert all(isinstance(about[key], str) for key in texts) and about['model'] != about['other_model']
    assert {'attention_model', 'batch_1p', 'batch_8p', 'golden_family', 'launch_options', 'digits_accuracy'} <= set(
        about
    )
    assert set(about['torch']) <= set(versions.VERSIONS)
    for record in about['golden']:
        assert (TOP / 'tests' / 'data' / 'golden' / f'{record}.json').is_file(), record
    for script in sorted((folder / 'test').glob('*.sh')):
        assert subprocess.run(['bash', '-n', script]).returncode == 0, script
    declared = (folder / 'public_address_statement.md').read_text()
    for path in folder.rglob('*'):
        if path.suffix in ('.py', '.sh', '.txt') and 'output' not in path.parts:
            for address in re.findall(r'https?://[\w./-]+[\w/]', path.read_text()):
                assert address in declared, (path, address)
