"""Checkpoints from anywhere: code in them is not run, damage is seen, and weights are taken wherever they lie and fit."""

import argparse
import collections
import io
import os
import pathlib
import pickle
import shutil
import struct
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from common import weights
from common.errors import UserError
from common.plain_pickle import PlainUnpickler
from helpers import SMALL, VAN, explains, in_folder, train

FORMATS = pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
QUICK = ['--batch-size=8', '--epochs=1', '--max-steps=2', '--eval-steps=1']


class Net(nn.Sequential):
    """Names as a model's: layers, batch norm with its counter, a classifier."""

    def __init__(self, classes=3, width=4):
        layers = {'stem': nn.Conv2d(3, width, 1), 'norm': nn.BatchNorm2d(width), 'head': nn.Linear(width, classes)}
        super().__init__(collections.OrderedDict(layers))

    def get_classifier(self):
        return self.head


def refused(path, *words):
    with pytest.raises(UserError) as told:
        weights.load(str(path))
    assert all(word in str(told.value) for word in words) and '\n' not in str(told.value), told.value


def write(content, path, zipped=True):
    torch.save(content, str(path), _use_new_zipfile_serialization=zipped)
    return path


# ---- code


class Code:
    """What a pickle may say instead of data: a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@FORMATS
@pytest.mark.parametrize('call, name', [
    ((os.system, 'touch {}'), 'system'),
    ((eval, "open('{}', 'w')"), 'eval'),
    ((open, '{}', 'w'), 'open'),
    ((pathlib.Path.touch, pathlib.Path('{}')), 'getattr'),
    ((torch.load, '{}'), 'load'),
    ((torch.storage._load_from_bytes, b'{}'), '_load_from_bytes'),
    ((torch.FloatStorage.from_file, '{}', True, 10), 'getattr'),
    ((argparse.FileType, '{}'), 'FileType'),
], ids=lambda value: value if isinstance(value, str) else '')  # fmt: skip
def test_code_in_a_checkpoint_is_refused_by_its_name(tmp_path, zipped, call, name):
    mark = tmp_path / 'it was run'
    function, *arguments = call
    arguments = [a.format(mark) if isinstance(a, str) else a for a in arguments]
    refused(write({'state_dict': {}, 'args': Code(function, *arguments)}, tmp_path / 'a.pth', zipped), 'a.pth', name)
    assert not mark.exists()


def test_a_whole_model_is_refused_by_its_name(tmp_path):
    refused(write({'model': Net()}, tmp_path / 'a.pth'), 'Net', 'state_dict')


@pytest.mark.parametrize('opcodes', [
    # a storage over an address of its own choice; numpy's type with flags of its own; Namespace for later ones
    b'\x80\x04ctorch\nFloatStorage\n)}(X\x05\x00\x00\x00cdataI4096\nu\x92.',
    b'\x80\x02cnumpy\ndtype\n(X\x01\x00\x00\x00OI00\nI01\ntR(I3\nX\x01\x00\x00\x00|NNNI8\nI1\nI0\ntb0'
    b'cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(X\x01\x00\x00\x00OI00\nI01\ntR(I3\nX\x01\x00\x00\x00|NNNI8\nI1\nI0\ntb'
    b'C\x08AAAAAAAAtR.',
    b'\x80\x02cos.path\njoin\n.',
    b'\x80\x04\x8c\x05torch\x8c\x16FloatStorage.from_file\x93.',
], ids=['address', 'numpy', 'os.path', 'dotted'])  # fmt: skip
def test_opcodes_that_no_pickler_writes(opcodes):
    with pytest.raises((pickle.UnpicklingError, ValueError, TypeError)):
        PlainUnpickler(io.BytesIO(opcodes)).load()


def test_a_pickle_changes_no_class(tmp_path):
    opcodes = b'\x80\x02cargparse\nNamespace\n(N}(X\x01\x00\x00\x00xI1\nutb.'  # sets x of the class
    PlainUnpickler(io.BytesIO(opcodes)).load()
    assert not hasattr(argparse.Namespace, 'x')


@FORMATS
def test_data_is_read(tmp_path, zipped):
    """What upstream's files hold: their command line with paths, numbers of numpy, counters, tensors of all kinds."""
    tensors = {
        'float': torch.arange(5.0), 'half': torch.ones(2).half(), 'short': torch.ones(2).bfloat16(), 'int': torch.tensor(3),
        'transposed': torch.arange(6.0).view(2, 3).t(), 'parameter': nn.Parameter(torch.ones(2)), 'yes': torch.tensor(True),
    }  # fmt: skip
    plain = {
        'numbers': [np.float64(1.5), np.float32(1.5), np.int64(-7), np.bool_(True), 1 + 2j, 2**80],
        'containers': [{1, 2}, (1, 2), torch.Size([1, 2]), collections.Counter('aab'), collections.deque([1]), b'\xff'],
        'torch': [torch.float16, torch.device('cuda', 1)],
    }
    args = argparse.Namespace(lr=1, output_dir=pathlib.PosixPath('/a/b'), other=pathlib.PureWindowsPath('c:/a'))
    content = {'model': collections.OrderedDict(tensors), 'args': args, **plain}
    read = weights.load(str(write(content, tmp_path / 'a.pth', zipped)))
    assert {name: read[name] for name in plain} == plain and type(read['numbers'][0]) is np.float64
    assert (
        read['args'].lr == 1 and str(read['args'].output_dir) == '/a/b' and isinstance(read['args'], argparse.Namespace)
    )
    for name, tensor in tensors.items():
        assert torch.equal(read['model'][name].float(), tensor.float()) and read['model'][name].dtype == tensor.dtype


def test_an_environment_that_forces_torchs_own_unpickler(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    assert weights.load(str(write({'a': 1}, tmp_path / 'a.pth'))) == {'a': 1}
    assert os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] == '1'


# ---- damage


def test_a_flipped_bit_in_any_part_is_seen(tmp_path):
    path = write({'state_dict': {'a': torch.arange(300.0), 'b': torch.ones(5)}, 'epoch': 3}, tmp_path / 'a.pth')
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    assert sum('/data/' in part.filename for part in parts) == 2
    for part in parts:
        name, extra = struct.unpack_from('<2H', whole, part.header_offset + 26)
        place = part.header_offset + 30 + name + extra + part.file_size // 2
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused(path, 'a.pth', part.filename, 'copy it again')


@FORMATS
@pytest.mark.parametrize('share', [0.0, 0.02, 0.3, 0.7, 0.99])
def test_a_file_that_is_cut_short(tmp_path, zipped, share):
    path = write({'a': torch.arange(300.0)}, tmp_path / 'a.pth', zipped)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(path, 'a.pth', 'cut short', 'copy it again')


def test_a_file_without_checksums_is_read(tmp_path):
    config = pytest.importorskip('torch.utils.serialization').config
    with config.patch({'save.compute_crc32': False}):
        path = write({'a': torch.ones(3)}, tmp_path / 'a.pth')
    with zipfile.ZipFile(path) as archive:
        assert not any(part.CRC for part in archive.infolist())
    assert torch.equal(weights.load(str(path))['a'], torch.ones(3))


def test_files_that_are_no_checkpoints(tmp_path):
    (tmp_path / 'page.pth').write_text('<!DOCTYPE html><title>404</title>')
    refused(tmp_path / 'page.pth', 'page.pth', 'not a checkpoint')
    refused(write([1], tmp_path / 'list.pth'), 'list')
    torch.jit.script(nn.Linear(1, 1)).save(str(tmp_path / 'script.pth'))
    refused(tmp_path / 'script.pth', 'TorchScript', 'state_dict')
    with tarfile.open(tmp_path / 'packed.pth.tar', 'w') as archive:
        archive.add(tmp_path / 'list.pth', 'list.pth')
    refused(tmp_path / 'packed.pth.tar', 'tar archive', 'unpack')
    os.mkfifo(tmp_path / 'pipe.pth')
    refused(tmp_path / 'pipe.pth', 'is not a file')
    for content in (
        {'format': 1},
        {'format': 1, 'args': {}, 'classes': ['a']},
        {'format': 1, 'args': 3, 'classes': []},
    ):
        refused(write(content, tmp_path / 'ours.pth'), 'ours.pth', 'format 1', 'args')


# ---- where the weights lie


def taken(content, *, model=None, ema=False, other=None, **options):
    """Loads content into a model. -> (what is said, the model)"""
    model = model or Net()
    found = weights.find(content, model, 'a.pth', other or {}, ema)
    return ' '.join([*found.said, *weights.fit(model, found, 'a.pth', 'net', **options)]), model


def state(value=1.0, prefix='', **options):
    return {prefix + name: torch.full_like(tensor, value) for name, tensor in Net(**options).state_dict().items()}


WRAPPED = [
    '',
    'module.',
    '_orig_mod.',
    'model.',
    'net.',
    'backbone.',
    '_fsdp_wrapped_module.',
    'module._orig_mod.',
    'anything.',
]
WRAPPED += [
    'model.module._orig_mod.',
    '_orig_mod.module.model.',
    '_fsdp_wrapped_module.model._orig_mod.module.backbone.',
]


@pytest.mark.parametrize('prefix', WRAPPED)
@pytest.mark.parametrize('way', ['', 'state_dict', 'model', 'model_state_dict', 'net', 'weights', 'ema', 'a.b.c'])
def test_weights_are_taken_wherever_they_fit(prefix, way):
    """Beside them other tensors: of an optimizer, of a loss, of a small network."""
    content = {**state(prefix=prefix), **({'loss.weight': torch.zeros(4, 3)} if prefix.startswith('model.') else {})}
    for step in reversed(way.split('.') if way else []):
        content = {step: content, 'optimizer': {'state': {0: {'exp_avg': torch.zeros(4)}}}, 'epoch': 3}
    said, model = taken(content)
    assert all(bool((tensor == 1).all()) for tensor in model.state_dict().values())
    assert all(step in said for step in prefix.split('.')) and (way in said or way == 'state_dict')


def test_wrappers_in_the_middle_of_names():
    wrapped = {name.replace('.', '._fsdp_wrapped_module._orig_mod.', 1): value for name, value in state().items()}
    assert '_fsdp_wrapped_module' in taken(wrapped)[0]


@pytest.mark.parametrize('averaged', ['state_dict_ema', 'model_ema', 'ema', 'teacher'])
@pytest.mark.parametrize('plain', ['state_dict', 'model', 'student'])
def test_averaged_weights_are_taken_where_they_are_wanted(plain, averaged):
    content = {averaged: {'module.' + name: value for name, value in state(2.0).items()}, plain: state(1.0)}
    assert taken(content)[1].stem.bias[0] == 1
    said, model = taken(content, ema=True)
    assert model.stem.bias[0] == 2 and averaged in said and 'averaged' in said
    said, model = taken({averaged: state(2.0)})
    assert model.stem.bias[0] == 2 and 'averaged' in said
    with pytest.raises(UserError, match=r'no averaged weights.*--use-ema'):
        taken({plain: state()}, ema=True)


def test_student_and_teacher_by_prefix():
    content = {**state(1.0, 'student.'), **state(2.0, 'teacher.')}
    assert (taken(content)[1].stem.bias[0], taken(content, ema=True)[1].stem.bias[0]) == (1, 2)


def test_counters_of_batch_norm_may_be_missing():
    old = {name: value for name, value in state().items() if 'num_batches' not in name}
    said, model = taken(old)
    assert 'counters of batch norm' in said and model.norm.num_batches_tracked == 0 and model.norm.weight[0] == 1


def test_a_new_head():
    for content in (state(classes=5), {name: value for name, value in state().items() if 'head' not in name}):
        said, model = taken(content, new_head=True)
        assert 'head.weight' in said and model.stem.bias[0] == 1 and model.head.weight[0, 0] != 1


ONE_SHAPE = {**state(), 'stem.weight': torch.ones(7, 3, 1, 1)}


@pytest.mark.parametrize('content, written_for, words, never', [
    (state(width=8), 'big', ['--model big', '6 of another shape', 'norm.bias, 8 in the file and 4 here'], []),
    ({'module.' + name: value for name, value in ONE_SHAPE.items()}, 'net', ['module.stem.weight', '7x3x1x1'], ['--model']),
    ({**state(), 'stem.extra': torch.ones(1)}, None, ['1 in the file unknown', 'stem.extra', '--model'], ['missing']),
    ({'a.weight': torch.ones(1)}, None, ['a.weight', 'stem.weight', '--model'], []),
    ({'epoch': 3}, None, ['no weights', 'epoch'], ['--model']),
    (state(classes=5), None, ['number of classes, 5', '3 here', '--finetune'], ['--model']),
    ({name: value for name, value in state().items() if 'head' not in name}, None, ['no classifier', '--finetune'], ['--model']),
])  # fmt: skip
def test_what_does_not_fit_is_named(content, written_for, words, never):
    with pytest.raises(UserError) as told:
        taken(content, written_for=written_for)
    said = str(told.value)
    assert all(word in said for word in words) and not any(word in said for word in never), said


def timms_convmixer():
    """In a child. -> the largest difference of logits between timm's model and the folder's with its weights."""
    from timm.models.convmixer import ConvMixer

    import train as folder
    from common import weights

    theirs = ConvMixer(dim=16, depth=14, kernel_size=3, patch_size=4, num_classes=5).eval()
    ours = folder.create_model('convmixer_16_14_ks3_p4', num_classes=5).eval()
    found = weights.find({'state_dict': theirs.state_dict()}, ours, 'a.pth', folder.HOOKS.other_names(ours))
    weights.fit(ours, found, 'a.pth', 'convmixer_16_14_ks3_p4')
    images = torch.rand(2, 3, 16, 16)
    return (theirs(images) - ours(images)).abs().max().item()


def test_timms_names_of_convmixer():
    assert in_folder('ConvMixer_for_PyTorch', timms_convmixer) < 1e-5


# ---- real runs


@pytest.fixture(scope='module')
def trained(few_digits, tmp_path_factory):
    result = train(VAN, few_digits, *SMALL, *QUICK, out=tmp_path_factory.mktemp('trained'))
    assert result.code == 0, result.text
    return result.out / 'checkpoint.pth'


def test_damage_in_the_optimizer_ends_a_resumed_training_before_it_begins(few_digits, trained, tmp_path):
    content = trained.read_bytes()
    moments = torch.load(str(trained))['optimizer']['state'][0]['exp_avg'].numpy().tobytes()
    place = content.index(moments)
    path = tmp_path / 'flipped.pth'
    path.write_bytes(content[:place] + b'\xff\xff' + content[place + 2 :])
    explains(
        train(VAN, few_digits, *SMALL, *QUICK, f'--resume={path}', out=tmp_path / 'out'), 'flipped.pth', 'checksum'
    )


def test_a_training_goes_on_from_a_directory(few_digits, trained, tmp_path):
    """From its last checkpoint, which the training then replaces; an evaluation takes the best one."""
    for name in ('checkpoint.pth', 'model_best.pth'):
        shutil.copy(trained, tmp_path / name)
    result = train(VAN, few_digits, *SMALL, *QUICK, '--epochs=2', f'--resume={tmp_path}', out=tmp_path)
    assert result.code == 0 and torch.load(str(tmp_path / 'checkpoint.pth'))['epoch'] == 2, result.text
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == [
        'checkpoint-1.pth',
        'checkpoint.pth',
        'model_best.pth',
    ]
    result = train(VAN, few_digits, *SMALL, '--eval', '--eval-steps=1', f'--resume={tmp_path}', out=tmp_path / 'eval')
    assert result.code == 0 and f'Weights from {tmp_path / "model_best.pth"}' in result.text, result.text


def test_which_file_of_a_directory(tmp_path):
    with pytest.raises(UserError, match='no checkpoint'):
        weights.locate(str(tmp_path), best=True)
    (tmp_path / 'van_b0.pth.tar').touch()
    (tmp_path / 'notes.txt').touch()
    assert weights.locate(str(tmp_path), best=True).endswith('van_b0.pth.tar')
    (tmp_path / 'van_b1.pth').touch()
    with pytest.raises(UserError, match=r'van_b0.pth.tar, van_b1.pth'):
        weights.locate(str(tmp_path), best=True)
    (tmp_path / 'last.pth.tar').touch()
    assert weights.locate(str(tmp_path), best=True).endswith('last.pth.tar')


def test_deits_file_is_evaluated(few_digits, trained, tmp_path):
    """{'model', 'args': Namespace with a PosixPath}, without counters: one line says what was done."""
    state = {name: value for name, value in torch.load(str(trained))['state_dict'].items() if 'num_batches' not in name}
    path = write({'model': state, 'args': argparse.Namespace(output_dir=pathlib.Path('/a'))}, tmp_path / 'deit.pth')
    result = train(VAN, few_digits, *SMALL, '--eval', '--eval-steps=1', f'--resume={path}', out=tmp_path / 'out')
    said = [line for line in result.lines if line.startswith('Weights from')]
    assert result.code == 0 and len(said) == 1 and 'its model' in said[0] and 'batch norm' in said[0], result.text


def test_a_distilled_deit_is_called_so(few_digits, tmp_path):
    import timm

    distilled = timm.create_model('deit_tiny_distilled_patch16_224', img_size=32, num_classes=10)
    path = write({'model': distilled.state_dict()}, tmp_path / 'deit.pth')
    words = [
        '--model=deit_tiny_patch16_224',
        '--img-size=32',
        '--device=cpu',
        '--workers=0',
        '--eval',
        f'--resume={path}',
    ]
    explains(
        train('Vit_base_patch32_224_for_PyTorch', few_digits, *words, out=tmp_path / 'out'), 'distilled', 'dist_token'
    )


@pytest.mark.parametrize('option', ['--resume', '--finetune'])
def test_a_run_refuses_code(few_digits, tmp_path, option):
    path = write({'state_dict': {}, 'x': Code(os.system, f'touch "{tmp_path}/run"')}, tmp_path / 'evil.pth')
    explains(train(VAN, few_digits, *SMALL, *QUICK, f'{option}={path}', out=tmp_path / 'out'), 'evil.pth', 'system')
    assert not (tmp_path / 'run').exists()
