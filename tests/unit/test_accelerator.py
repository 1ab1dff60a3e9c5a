"""The device layer as far as a CPU shows it; test_npu.py has the simulated NPU."""

import contextlib
import importlib
import json
import sys
import warnings

import pytest
import torch
from timm.optim import create_optimizer_v2

from common import accelerator, compat, npu_patches, options, precision, profiling
from common.errors import UserError

CPU = accelerator.Accelerator()


def test_fused_optimizer_is_fused_and_does_the_same():
    """The groups with their own rates and decays are taken over; three steps give the plain optimizer's weights."""
    weights = []
    for fused in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 2))
        optimizer = create_optimizer_v2(model, 'adamw', lr=0.01, weight_decay=0.3)
        optimizer.param_groups[0]['lr'] = 0.1
        if fused:
            plain, optimizer = optimizer, CPU.fused_optimizer(optimizer)
            assert [g['fused'] for g in optimizer.param_groups] == [True, True]
            for name in ('lr', 'weight_decay', 'betas', 'params'):
                pairs = [(a[name], b[name]) for a, b in zip(plain.param_groups, optimizer.param_groups)]
                assert all(a is b or a == b for a, b in pairs)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(4, 8)).square().sum().backward()
            optimizer.step()
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.allclose(*weights, atol=1e-6)
    with pytest.raises(UserError, match='--fused-optimizer'):
        CPU.fused_optimizer(torch.optim.RMSprop([torch.nn.Parameter(torch.zeros(1))]))


@pytest.mark.parametrize('scale', [0.25, 0.7])
def test_attention_takes_any_scale(scale):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 5, 16).unbind(0)
    function, name = CPU.attention()
    assert name == 'scaled_dot_product_attention'
    assert torch.allclose(function(q, k, v, scale), (scale * q @ k.transpose(-2, -1)).softmax(-1) @ v, atol=1e-6)


def test_what_a_cpu_lacks_is_said():
    CPU.short_float32(False)
    with pytest.raises(UserError, match='--hf32'):
        CPU.short_float32(True)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """-> function(source): that is what an installed torch_npu does when it is imported, beside the CPU build of torch."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(torch.version, 'cuda', None)
    accelerator.npu_problem.cache_clear()

    def install(source):
        (tmp_path / 'torch_npu.py').write_text(source)
        importlib.invalidate_caches()

    yield install
    accelerator.npu_problem.cache_clear()
    sys.modules.pop('torch_npu', None)


@pytest.mark.parametrize(
    'source, words',
    [
        (
            "raise Exception('ASCEND_OPP_PATH environment variable is not set. Please check')",
            ['ASCEND_OPP_PATH', 'set_env.sh'],
        ),
        (
            "raise Exception('ASCEND_RUNTIME_PATH : /cann/runtime does not exist. Please')",
            ['/cann/runtime', 'set_env.sh'],
        ),
        ("raise ImportError('libhccl.so: cannot open shared object file')", ['libhccl.so', 'set_env.sh']),
        ('import a_package_that_is_missing', ['a_package_that_is_missing', 'pip install']),
    ],
)
def test_an_npu_that_does_not_load_is_a_sentence(installed, source, words):
    """It names what is missing and the way out; auto says it too, and takes another device."""
    installed(source)
    with pytest.raises(UserError) as told:
        accelerator.choose('npu')
    found = accelerator.choose('auto')
    assert found.kind != 'npu' and len(found.notes) == 1
    for said in (str(told.value), found.notes[0]):
        assert all(word in said for word in words) and '\n' not in said, said


def test_torch_for_cuda_is_refused_before_the_import_that_would_abort(installed, monkeypatch):
    installed('import os\nos.abort()')
    monkeypatch.setattr(torch.version, 'cuda', '13.0')
    with pytest.raises(UserError, match=r'CUDA 13\.0.*CPU build.*npu_requirements'):
        accelerator.choose('npu')
    assert 'CPU build' in accelerator.choose('auto').notes[0]


def test_auto_is_silent_where_there_is_no_torch_npu():
    assert not accelerator.choose('auto').notes


def test_a_patch_says_why_it_does_not_apply(monkeypatch):
    """What is said is true of this model and this device: no such module, no kernel, or a torch that needs it not."""
    plain = torch.nn.Sequential(torch.nn.Linear(2, 2))
    lines = npu_patches.apply(
        [npu_patches.contiguous_inputs(torch.nn.LayerNorm), npu_patches.INT32_TARGETS], plain, CPU
    )
    assert 'not applied' in lines[0] and 'no LayerNorm' in lines[0] and 'torch_npu' not in lines[0]
    assert 'not applied' in lines[1] and torch.__version__ in lines[1]
    monkeypatch.setattr(accelerator.Accelerator, 'attention', lambda self: (None, 'this torch has no fused attention'))
    patch = npu_patches.fuse_attention({torch.nn.Linear: torch.nn.Bilinear})
    assert 'this torch has no fused attention' in npu_patches.apply([patch], plain, CPU)[0]


@pytest.mark.parametrize(
    'options, words', [({}, 'weight by weight'), ({'foreach': True}, 'foreach'), ({'fused': True}, 'fused')]
)
def test_the_kernels_of_an_optimizer_are_said(options, words):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], **options)
    assert compat.optimizer_kernels(optimizer) == f'AdamW, {words}'


def test_patches_are_chosen_by_name():
    one, two = (npu_patches.Patch(name, None, 'why', exact=name == 'one') for name in ('one', 'two'))
    assert npu_patches.chosen([one, two], 'all') == [one] and npu_patches.chosen([one, two], 'none') == []
    assert npu_patches.chosen([one, two], 'two, one') == [two, one]
    with pytest.raises(UserError, match=r"'three'.*one"):
        npu_patches.chosen([one, two], 'one,three')


@pytest.mark.parametrize('old', [False, True])
def test_a_profile_holds_the_steps_that_were_asked_for(tmp_path, monkeypatch, old):
    """By torch's profiler, and as torch before 1.9 has it; every step multiplies matrices once."""
    if old:
        monkeypatch.setattr(accelerator.Accelerator, 'profiler', lambda self: None)
    said = []
    profile = profiling.step_profile(CPU, 3, 2, str(tmp_path), said.append)
    for _ in range(9):
        torch.mm(torch.ones(4, 4), torch.ones(4, 4))
        profile.step()
    profile.stop()
    trace = json.loads(next(tmp_path.glob('*.json')).read_text())
    names = [event.get('name') for event in (trace['traceEvents'] if isinstance(trace, dict) else trace)]
    assert names.count('aten::mm') == 3
    assert len(said) == 1 and '4 to 6' in said[0] and str(tmp_path) in said[0]


class SilentProfiler:
    """As torch_npu's where it fails: it logs the reason itself and leaves no trace."""

    def step(self):
        pass

    stop = start = step


@pytest.mark.parametrize('steps, words', [(9, 'its own lines'), (2, '1 steps too early')])
def test_a_trace_that_is_missing_is_said(tmp_path, steps, words):
    said = []
    profile = profiling.StepProfile(SilentProfiler(), 3, str(tmp_path), said.append)
    for _ in range(steps):
        profile.step()
    profile.stop()
    assert len(said) == 1 and words in said[0] and str(tmp_path) in said[0]


class Module:
    """A stand-in for torch.cuda: two devices; notes what it is asked for."""

    def __init__(self):
        self.asked, self.current, self.capability = [], 'main', (8, 0)

    def __getattr__(self, name):
        answers = {'device_count': 2, 'get_device_name': 'Card', 'max_memory_allocated': 5}
        answers['get_device_capability'] = self.capability
        return lambda *words: self.asked.append((name, *words)) or answers.get(name)

    def current_stream(self):
        return self.Stream(self.current)

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream.name
        yield
        self.current = before

    class Stream:
        def __init__(self, name='side'):
            self.name = name

        def wait_stream(self, other):
            assert (self.name, other.name) == ('main', 'side')

    class Event:
        def __init__(self, enable_timing=False):
            assert enable_timing
            self.at = None

        def record(self):
            self.at = 1000.0

        def elapsed_time(self, other):
            return other.at - self.at + 250.0  # milliseconds


class Tensor:
    """A part of a batch: where it was made and where it is used."""

    def __init__(self, number, made):
        self.number, self.made, self.used = number, made, None

    def record_stream(self, stream):
        self.used = stream.name


@pytest.fixture
def cuda(monkeypatch):
    module = Module()
    monkeypatch.setattr(accelerator.Cuda, 'load', staticmethod(lambda: module))
    monkeypatch.setattr(torch.backends.cudnn, 'benchmark', False)
    return accelerator.Cuda(1)


def test_a_cuda_card_is_chosen_before_anything_else(cuda):
    assert (cuda.device, cuda.ddp_devices, cuda.name) == (torch.device('cuda', 1), [1], 'Card')
    assert [words for words in cuda.module.asked if words[0] == 'set_device'] == [('set_device', 'cuda:1')]
    assert torch.backends.cudnn.benchmark and accelerator.Cuda.count() == 2
    with pytest.raises(UserError, match=r'CUDA device 2.* 2.*CUDA_VISIBLE_DEVICES'):
        accelerator.Cuda(2)


def test_cuda_time_memory_and_seeds(cuda):
    assert cuda.seconds(cuda.mark(), cuda.mark()) == 0.25
    cuda.synchronize(), cuda.reset_peak_memory(), cuda.seed(7)
    first = torch.rand(1)
    cuda.seed(7)
    assert torch.equal(torch.rand(1), first) and cuda.peak_memory() == 5
    assert {('synchronize',), ('reset_peak_memory_stats',), ('manual_seed', 7)} <= set(cuda.module.asked)


def test_cuda_prepares_the_next_batch_on_another_stream(cuda):
    made, given = [], []

    def transform(number):
        made.append(number)
        return [Tensor(number, cuda.module.current)]

    for (tensor,) in cuda.prefetch(iter(range(3)), transform):
        given.append(tensor)
        assert len(made) == min(3, len(given) + 1)  # one more than is used
    assert [tensor.number for tensor in given] == [0, 1, 2]
    assert {(tensor.made, tensor.used) for tensor in given} == {('side', 'main')}


def test_cuda_mixed_precision(cuda, monkeypatch):
    monkeypatch.setattr(torch.amp, 'GradScaler', lambda *words, **options: (words, options))
    assert cuda.grad_scaler(init_scale=4.0) == (('cuda',), {'init_scale': 4.0})
    with warnings.catch_warnings():  # torch warns that there is no such device
        warnings.simplefilter('ignore')
        context = cuda.autocast(torch.float16)()
    assert (context.device, context.fast_dtype, cuda.pinning()) == ('cuda', torch.float16, {'pin_memory': True})
    assert torch.profiler.ProfilerActivity.CUDA in cuda.profiler()[1]


@pytest.mark.parametrize(
    'capability, words, expected',
    [
        ((8, 0), [], 'autocast to bfloat16, no loss scale'),
        ((9, 0), ['--amp-dtype=float16'], 'autocast to float16, loss scale dynamic'),
        ((9, 0), ['--loss-scale=64'], 'autocast to float16, loss scale 64.0'),
        ((9, 0), ['--no-amp'], 'float32'),
        ((7, 5), [], 'autocast to float16, loss scale dynamic'),
    ],
)
def test_what_a_cuda_card_is_fast_with(cuda, monkeypatch, capability, words, expected):
    """bfloat16 and NHWC from Ampere on; float16 where its loss scale is given."""
    monkeypatch.setattr(torch.amp, 'GradScaler', lambda *words, **options: 'a scaler')
    cuda.module.capability = capability
    card = accelerator.Cuda(0)
    args = options.parse('', {}, ['--data-path=/data', *words])
    assert precision.choose(args, card).words == expected
    assert card.channels_last == (capability >= (8, 0))


def test_cuda_shortens_float32_only_when_told(cuda):
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    try:
        for wanted, expected in ((None, before), (True, [True, True]), (False, [False, False])):
            cuda.short_float32(wanted)
            assert [flag.allow_tf32 for flag in flags] == expected
    finally:
        for flag, value in zip(flags, before):
            flag.allow_tf32 = value


class Scaler:
    def __init__(self, **options):
        self.did = [('init', options)]

    def scale(self, loss):
        return loss * 8

    def __getattr__(self, name):
        return lambda *words: self.did.append((name, *words))


@pytest.mark.parametrize('loss_scale, options, fixed', [('dynamic', {}, None), (8, {'init_scale': 8.0}, 8.0)])
def test_a_step_with_a_scaled_loss(monkeypatch, loss_scale, options, fixed):
    """Gradients are unscaled before they are clipped; a number keeps the scale."""
    monkeypatch.setattr(accelerator.Accelerator, 'grad_scaler', lambda self, **words: Scaler(**words))
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer, clipped = torch.optim.SGD([weight], lr=1.0), []
    native = precision.Native(CPU, torch.float16, loss_scale)
    native.backward([weight.sum()], optimizer, lambda parameters: clipped.append(parameters[0].grad.item()))
    native.update(optimizer)
    did = native.scaler.did
    assert did[0] == ('init', options) and clipped == [8.0]
    assert did[1:] == [('unscale_', optimizer), ('step', optimizer), ('update', fixed)]


@pytest.mark.parametrize(
    'flags, mixes, channels_last',
    [
        ('fpu sse4_2', False, False),
        ('avx2 fma', False, True),
        ('avx2 avx512f avx512_bf16', True, True),
        (None, False, False),
    ],
)
def test_what_a_cpu_is_fast_with(monkeypatch, tmp_path, flags, mixes, channels_last):
    """bfloat16 only where the chip computes in it; there is no such file outside Linux."""
    path = tmp_path / 'cpuinfo'
    if flags:
        path.write_text(f'processor : 0\nmodel name : A chip\nflags\t\t: {flags}\n')
    about = accelerator.about_cpu
    monkeypatch.setattr(accelerator, 'about_cpu', lambda word: about(word, path))
    assert (CPU.mixes, CPU.channels_last) == (mixes, channels_last)
