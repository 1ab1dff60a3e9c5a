"""npu | cuda | cpu behind one interface: the only file that names torch_npu, torch.cuda or apex.

A subclass overrides what its device does differently; the base class is the CPU. Nothing of another vendor is imported
before a device of that vendor is asked for. In this file `npu` and `self.npu` are the module torch.npu.
"""
import inspect
import resource
import time

import torch
import torch.nn.functional as F

from common import compat
from common.errors import UserError


class Accelerator:
    """The device of one rank. `kind` cpu | cuda | npu; `backend` the process group's; `index` which card."""

    kind, backend = 'cpu', 'gloo'
    packages = ('torch', 'torchvision', 'timm', 'PIL', 'numpy', 'apex')     # whose versions result.json names
    patched = False                      # whether a folder's npu_patch.py applies
    autocast_dtype = torch.bfloat16      # what AMP uses unless told: the CPU has no fast float16
    target_dtype = torch.int64           # of class numbers on the device

    def __init__(self, index=0):
        self.index = index
        self.device = torch.device('cpu')

    @classmethod
    def missing(cls):
        """'' when such a device is usable, otherwise the reason as a clause."""
        return ''

    @classmethod
    def count(cls):
        """How many such devices this host has; all of its CPUs together are one."""
        return 1

    @property
    def name(self):
        """What the device is called, for logs."""
        try:
            with open('/proc/cpuinfo') as f:
                model = next(line.split(':', 1)[1].strip() for line in f if line.startswith('model name'))
        except (OSError, StopIteration):
            model = 'CPU'
        return '%s, %d threads' % (model, torch.get_num_threads())

    @property
    def ddp_devices(self):
        """device_ids for DistributedDataParallel."""
        return None

    def synchronize(self):
        """Waits until the device has done all that was asked of it."""

    def mark(self):
        """A point in the device's time, to be compared by `seconds`; does not wait."""
        return time.perf_counter()

    def seconds(self, start, end):
        """Seconds between two marks, after `synchronize`."""
        return end - start

    def reset_peak_memory(self):
        """Starts the count of `peak_memory` anew (the operating system's count for a CPU process cannot be reset)."""

    def peak_memory(self):
        """Bytes at the highest point; on a CPU the resident set of this process."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def seed(self, number):
        """Seeds the generator that tensors on the device draw from, and the CPU's."""
        torch.default_generator.manual_seed(number)

    def autocast(self, dtype):
        """-> a function that makes the autocast context, or None where this torch has none for this device."""
        return compat.autocast(self.kind, dtype)

    def grad_scaler(self, **options):
        """A gradient scaler for float16, options by torch.cuda.amp.GradScaler's names. None: the device needs none."""
        return None

    def short_float32(self, on):
        """Lets float32 convolutions and matrix products use a shorter format, or not; None: as the framework has it."""
        if on:
            raise UserError('--hf32: a CPU has no shorter float32 format (NPUs have HF32, CUDA GPUs TF32); leave it out')

    def fused_optimizer(self, optimizer):
        """-> an optimizer of the same kind and parameter groups that updates all parameters in a few kernels."""
        kind = type(optimizer)
        if 'fused' not in inspect.signature(kind.__init__).parameters:
            raise UserError('--fused-optimizer: torch %s has no fused %s for %s; leave it out'
                            % (torch.__version__, kind.__name__, self.kind))
        return like(optimizer, kind, fused=True)

    def attention(self):
        """-> (function(q, k, v, scale, dropout=0.) on (B, heads, N, channels) or None, its name): the best kernel there is."""
        if hasattr(F, 'scaled_dot_product_attention'):
            return sdpa, 'scaled_dot_product_attention'
        return None, 'none: torch %s has no fused attention' % torch.__version__

    def profiler(self):
        """-> (module with profile, schedule and tensorboard_trace_handler, activities); None where torch is older than 1.9."""
        module = getattr(torch, 'profiler', None)
        if module is None or not hasattr(module, 'tensorboard_trace_handler'):
            return None
        return module, [module.ProfilerActivity.CPU]

    def pinning(self):
        """-> keywords of DataLoader for page-locked batches; {} where that helps nothing or is not there."""
        return {}

    def prefetch(self, batches, stage):
        """Yields stage(batch) of each batch; an accelerator prepares the next one while the current one is used."""
        for batch in batches:
            yield stage(batch)


class Cuda(Accelerator):
    kind, backend = 'cuda', 'nccl'
    autocast_dtype = torch.float16

    def __init__(self, index=0):
        super().__init__(index)
        if index >= torch.cuda.device_count():
            raise UserError('there is no CUDA device %d: this host shows %d; choose another with --device-id, or start '
                            'fewer processes with --nproc_per_node' % (index, torch.cuda.device_count()))
        torch.cuda.set_device(index)
        self.device = torch.device('cuda', index)
        torch.backends.cudnn.benchmark = True

    @classmethod
    def missing(cls):
        return '' if torch.cuda.is_available() else 'torch %s sees no CUDA device' % torch.__version__

    @classmethod
    def count(cls):
        return torch.cuda.device_count()

    @property
    def name(self):
        return torch.cuda.get_device_name(self.index)

    @property
    def ddp_devices(self):
        return [self.index]

    def synchronize(self):
        torch.cuda.synchronize()

    def mark(self):
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start, end):
        return start.elapsed_time(end) / 1000

    def reset_peak_memory(self):
        torch.cuda.reset_peak_memory_stats()

    def peak_memory(self):
        return torch.cuda.max_memory_allocated()

    def seed(self, number):
        super().seed(number)
        torch.cuda.manual_seed(number)

    def autocast(self, dtype):
        if not hasattr(torch, 'autocast') and hasattr(torch.cuda.amp, 'autocast') and dtype == torch.float16:
            return torch.cuda.amp.autocast      # torch 1.6 to 1.9
        return super().autocast(dtype)

    def grad_scaler(self, **options):
        if hasattr(torch, 'amp') and hasattr(torch.amp, 'GradScaler'):
            return torch.amp.GradScaler('cuda', **options)
        return torch.cuda.amp.GradScaler(**options)

    def short_float32(self, on):
        if on is not None:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on

    def profiler(self):
        module, activities = super().profiler() or (None, None)
        return module and (module, activities + [module.ProfilerActivity.CUDA])

    def pinning(self):
        return {'pin_memory': True}

    def prefetch(self, batches, stage):
        return overlapped(torch.cuda, batches, stage)


class Npu(Accelerator):
    kind, backend = 'npu', 'hccl'
    packages = Accelerator.packages + ('torch_npu',)
    patched = True
    autocast_dtype = torch.float16       # all Ascend chips have it; bfloat16 came with the 910B

    def __init__(self, index=0):
        super().__init__(index)
        self.npu = npu = import_npu()
        if index >= npu.device_count():
            raise UserError('there is no NPU %d: this host shows %d; choose another with --device-id or '
                            'ASCEND_RT_VISIBLE_DEVICES, or start fewer processes with --nproc_per_node'
                            % (index, npu.device_count()))
        npu.set_device('npu:%d' % index)        # before the first tensor and before hccl
        self.device = torch.device('npu', index)
        if compat.TORCH >= (2, 1):
            npu.set_compile_mode(jit_compile=False)       # precompiled kernels: no compilation at each new shape
            npu.config.allow_internal_format = False      # which private formats would bring back

    @classmethod
    def missing(cls):
        try:
            npu = import_npu()
        except UserError as e:
            return str(e)
        return '' if npu.is_available() else 'torch_npu is installed but sees no NPU (npu-smi info lists the cards)'

    @classmethod
    def count(cls):
        npu = import_npu()
        return npu.device_count()

    @property
    def name(self):
        return self.npu.get_device_name(self.index) if hasattr(self.npu, 'get_device_name') else 'Ascend NPU'

    @property
    def ddp_devices(self):
        return [self.index]

    def synchronize(self):
        self.npu.synchronize()

    def mark(self):
        event = self.npu.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start, end):
        return start.elapsed_time(end) / 1000

    def reset_peak_memory(self):
        if hasattr(self.npu, 'reset_peak_memory_stats'):
            self.npu.reset_peak_memory_stats()

    def peak_memory(self):
        return self.npu.max_memory_allocated()

    def seed(self, number):
        super().seed(number)
        self.npu.manual_seed(number)

    def autocast(self, dtype):
        amp = getattr(self.npu, 'amp', None)
        if dtype == torch.bfloat16 and not (hasattr(self.npu, 'is_bf16_supported') and self.npu.is_bf16_supported()):
            return None
        if not hasattr(amp, 'autocast'):
            return super().autocast(dtype)
        if 'dtype' in inspect.signature(amp.autocast.__init__).parameters:
            return lambda: amp.autocast(dtype=dtype)
        return amp.autocast                     # torch_npu 1.8: float16 only

    def grad_scaler(self, **options):
        amp = getattr(self.npu, 'amp', None)
        if hasattr(amp, 'GradScaler'):          # it alone knows the overflow register of chips without inf and nan
            return amp.GradScaler(**options)
        if hasattr(torch, 'amp') and hasattr(torch.amp, 'GradScaler') and self.npu.utils.is_support_inf_nan():
            return torch.amp.GradScaler('npu', **options)
        raise UserError('this torch for Ascend has no GradScaler: use --amp-impl apex, or --no-amp')

    def short_float32(self, on):
        if on is not None and not hasattr(self.npu, 'matmul'):
            raise UserError('--hf32: this torch_npu cannot switch HF32 (2.1 and newer can); leave it out')
        if on is not None:
            self.npu.matmul.allow_hf32 = self.npu.conv.allow_hf32 = on

    def fused_optimizer(self, optimizer):
        """torch_npu.optim's: float32 and float16 parameters only, and none that gets no gradient in the first step."""
        kind, fused = type(optimizer).__name__, None
        if compat.TORCH >= (2, 1):
            import torch_npu
            fused = getattr(torch_npu.optim, 'NpuFused' + kind, None)
        if fused is None:
            raise UserError('--fused-optimizer: there is no torch_npu.optim.NpuFused%s here; leave it out' % kind)
        return like(optimizer, fused)

    def attention(self):
        """npu_fusion_attention for the number formats that it takes here, tried out once; SDPA for the others."""
        usable = [dtype for dtype in (torch.float16, torch.bfloat16, torch.float32) if self.fuses(dtype)]
        general, name = super().attention()
        if not usable:
            return general, name
        return (lambda q, k, v, scale, dropout=0.: (fusion_attention if q.dtype in usable or general is None else general)(
            q, k, v, scale, dropout)), 'npu_fusion_attention (%s)' % ', '.join(str(d).replace('torch.', '') for d in usable)

    def fuses(self, dtype):
        """Whether npu_fusion_attention goes forward and backward in dtype on this chip; the documentation differs by chip."""
        try:
            q, k, v = torch.ones(3, 1, 2, 16, 32, device=self.device, dtype=dtype).requires_grad_().unbind(0)
            fusion_attention(q, k, v, .25, 0.).sum().backward()
            self.synchronize()
        except (RuntimeError, AttributeError, ImportError, TypeError):
            return False
        return True

    def fast_gelu(self):
        """-> torch_npu's GELU by a sigmoid: quicker, and not the GELU of the checkpoints. None before torch_npu 2.1."""
        if compat.TORCH < (2, 1):
            return None
        import torch_npu
        return torch_npu.fast_gelu

    def profiler(self):
        if compat.TORCH < (2, 1):
            return None
        from torch_npu import profiler
        return profiler, [profiler.ProfilerActivity.CPU, profiler.ProfilerActivity.NPU]

    def pinning(self):
        if hasattr(torch, 'accelerator'):       # torch >= 2.6 pins for the device that there is
            return {'pin_memory': True}
        return {'pin_memory': True, 'pin_memory_device': 'npu'} if compat.TORCH >= (2, 1) else {}

    def prefetch(self, batches, stage):
        return overlapped(self.npu, batches, stage)


def like(optimizer, kind, **more):
    """-> an optimizer of class `kind` with another one's groups, rates and defaults, as far as it has them, and `more`."""
    known = set(inspect.signature(kind.__init__).parameters) - {'fused', 'foreach'}
    groups = [{k: v for k, v in group.items() if k not in ('fused', 'foreach')} for group in optimizer.param_groups]
    return kind(groups, **dict({k: v for k, v in optimizer.defaults.items() if k in known}, **more))


def sdpa(q, k, v, scale, dropout=0.):
    """torch's scaled_dot_product_attention; its scale is 1 / sqrt(channels), so another one goes into q."""
    natural = q.shape[-1] ** -.5
    return F.scaled_dot_product_attention(q if scale == natural else q * (scale / natural), k, v, dropout_p=dropout)


def fusion_attention(q, k, v, scale, dropout=0.):
    """torch_npu's flash attention; (B, heads, N, channels) is the layout that it calls BNSD."""
    import torch_npu
    return torch_npu.npu_fusion_attention(q, k, v, head_num=q.shape[1], input_layout='BNSD', scale=scale,
                                          keep_prob=1. - dropout)[0]


def import_npu():
    """torch.npu, from torch_npu or built into the vendor's torch 1.5. Raises UserError when CANN is not there."""
    if hasattr(torch, 'npu'):
        return torch.npu
    try:
        import torch_npu  # noqa: F401  (importing it registers torch.npu)
    except ModuleNotFoundError:
        raise UserError('torch_npu is not installed: pip install -r npu_requirements.txt on a host with CANN')
    except (ImportError, RuntimeError, OSError) as e:
        raise UserError('torch_npu does not load (%s): run `source set_env.sh` of the CANN installation first'
                        % str(e).strip().split('\n')[0])
    return torch.npu


def import_apex():
    """apex.amp (Ascend's or NVIDIA's)."""
    try:
        from apex import amp
    except ImportError as e:
        raise UserError('--amp-impl apex needs apex, which cannot be imported (%s): build it from gitee.com/ascend/apex '
                        'or github.com/NVIDIA/apex (the package called apex on PyPI is another thing)' % e)
    return amp


def overlapped(backend, batches, stage):
    """stage(batch) of the next batch runs on a side stream while the current one is used.

    `backend` is torch.cuda or torch.npu. record_stream keeps a batch's memory from being handed out on the side stream
    while the main one still reads it.
    """
    side, ready = backend.Stream(), None
    for batch in batches:
        with backend.stream(side):
            upcoming = stage(batch)
        if ready is not None:
            yield ready
        backend.current_stream().wait_stream(side)
        for tensor in upcoming:
            tensor.record_stream(backend.current_stream())
        ready = upcoming
    if ready is not None:
        yield ready


KINDS = {cls.kind: cls for cls in (Npu, Cuda, Accelerator)}


def find(wanted):
    """-> (class, card or None) for what --device says. Raises UserError when it is not there."""
    kind, _, card = wanted.partition(':')
    kind = {'gpu': 'cuda'}.get(kind, kind)
    if card and not card.isdigit():
        raise UserError('--device %s: the card after the colon must be a number' % wanted)
    if kind == 'auto':
        return next(cls for cls in KINDS.values() if not cls.missing()), None
    if kind not in KINDS:
        raise UserError('--device %s is not known: choose auto, %s' % (wanted, ', '.join(KINDS)))
    reason = KINDS[kind].missing()
    if reason:
        raise UserError('--device %s: %s; choose another --device (auto takes the best one there is)' % (wanted, reason))
    return KINDS[kind], int(card) if card else None


def choose(wanted, index=0):
    """-> the Accelerator called `wanted` (auto: the first usable of npu, cuda, cpu), bound to card `index`.

    Also understood: 'gpu' for cuda, and 'npu:3' or 'cuda:1' for one card.
    """
    cls, card = find(wanted)
    return cls(index if card is None else card)


def count(wanted):
    """How many devices of that kind this host has."""
    return find(wanted)[0].count()
