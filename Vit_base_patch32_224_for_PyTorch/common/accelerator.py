"""npu | cuda | cpu behind one interface: the only file that names torch_npu, torch.cuda or apex.

Accelerator is the CPU, Card is what NPU and CUDA cards share. Nothing of a vendor is imported before a device of that vendor is
asked for.
"""

import functools
import importlib.util
import inspect
import re
import resource
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Type

import torch
import torch.nn.functional as F

from common import compat, depthwise, host_memory, npu_kernels
from common.errors import UserError

NO_TORCH_NPU = 'torch_npu is not installed: pip install -r npu_requirements.txt on a host with CANN'


class Accelerator:
    """The device of one rank. kind: cpu, cuda or npu; backend: of its process group; index: number of the card."""

    kind, backend = 'cpu', 'gloo'
    # whose versions are in result.json
    packages = ('torch', 'torchvision', 'timm', 'PIL', 'simplejpeg', 'numpy', 'apex')
    patched = False  # whether a folder's npu_patch.py applies
    launches_cost = False  # whether to ask for a kernel takes time that counts
    autocast_dtype = torch.bfloat16  # of mixed precision unless told: the CPU has no fast float16
    targets_dtype = torch.int64  # of targets on the device
    ddp_devices = None  # device_ids for DistributedDataParallel
    notes: Sequence[str] = ()  # lines for the log: why this device was chosen

    def __init__(self, index: int = 0):
        self.index = index
        self.device = torch.device('cpu')

    @classmethod
    def missing(cls) -> str:
        """-> '' when such a device is usable, otherwise the reason as a clause."""
        return ''

    @classmethod
    def count(cls) -> int:
        """-> how many such devices this machine has; its CPUs are one."""
        return 1

    @property
    def name(self) -> str:
        """What the device is called, for logs."""
        return f'{about_cpu("model name") or "CPU"}, {torch.get_num_threads()} threads'

    @property
    def mixes(self) -> bool:
        """Whether mixed precision is faster than float32. Without these instructions bfloat16 is emulated, and much slower."""
        return compat.TORCH >= (2, 1) and bool({'avx512_bf16', 'amx_bf16'} & set(about_cpu('flags').split()))

    @property
    def channels_last(self) -> bool:
        """Whether images and weights are faster in NHWC memory format."""
        return compat.TORCH >= (2, 1) and 'avx2' in about_cpu('flags').split()

    def synchronize(self) -> None:
        """Waits until the device has done all that it was asked to do."""

    def mark(self) -> Any:
        """-> a point in the device's time, for `seconds`. Does not wait."""
        return time.perf_counter()

    def seconds(self, start: Any, end: Any) -> float:
        """-> seconds between two marks, once the device is synchronised."""
        return end - start

    def reset_peak_memory(self) -> None:
        """Lets `peak_memory` begin anew. (The count of a CPU's process cannot be reset.)"""

    def peak_memory(self) -> int:
        """-> bytes in use at the highest point; on a CPU the resident memory of this process."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def seed(self, number: int) -> None:
        """Seeds the generators of the CPU and of the device."""
        torch.default_generator.manual_seed(number)

    def autocast(self, dtype: torch.dtype) -> Optional[Callable[[], Any]]:
        """-> a function that makes the autocast context; None where this torch has none for this device."""
        return compat.autocast(self.kind, dtype)

    def grad_scaler(self, **options: Any) -> Any:
        """-> a gradient scaler for float16 (options of torch.cuda.amp.GradScaler); None where the device needs none."""
        return None

    def set_up(self) -> None:
        """Makes this process compute faster, before torch begins a thread.

        What tensors free is kept for the next ones, as a card's allocator does by itself. Numbers below 1.2e-38, which have fewer
        digits than others, are 0: a matrix of them is multiplied 250 times as slowly by an Intel Xeon, and a step of ViT that met
        some took twice as long. Threads have it from the one that begins them.
        """
        host_memory.keep()
        compat.flush_denormals()

    def short_float32(self, on: Optional[bool]) -> None:
        """Switches the shorter format of float32 convolutions and products. None: leaves it as the framework has it."""
        if on:
            raise UserError(
                '--hf32: a CPU has no shorter float32 format (NPUs have HF32, CUDA GPUs TF32); leave it out'
            )

    def fused_optimizer(self, optimizer: Any) -> Any:
        """-> an optimizer of the same kind and parameter groups that updates all parameters in a few kernels."""
        kind = type(optimizer)
        if 'fused' not in inspect.signature(kind.__init__).parameters:
            raise UserError(
                f'--fused-optimizer: torch {torch.__version__} has no fused {kind.__name__} for {self.kind}; leave it out'
            )
        return like(optimizer, kind, fused=True)

    def faster_optimizer(self, optimizer: Any) -> Any:
        """-> the fastest that this device has without being asked; torch has fused ones for a CPU from 2.4 on"""
        try:
            return self.fused_optimizer(optimizer)
        except (UserError, RuntimeError):
            return optimizer

    def attention(self) -> Tuple[Optional[Callable], str]:
        """-> (function(q, k, v, scale, dropout=0.) on (B, heads, N, channels), or None; its name): the best kernel."""
        if hasattr(F, 'scaled_dot_product_attention'):
            return sdpa, 'scaled_dot_product_attention'
        return None, f'none: torch {torch.__version__} has no fused attention'

    def adapt(self, model: torch.nn.Module) -> None:
        """Exchanges layers of a model for ones that train faster on this device. Names, weights and results stay."""
        if compat.TORCH >= (2, 1):
            depthwise.exchange(model)

    def failure(self, error: BaseException) -> str:
        """-> a sentence where it was the device that failed, with what its driver says; '' for another error."""
        return ''

    def profiler(self) -> Optional[Tuple[Any, List[Any]]]:
        """-> (module with profile, schedule and tensorboard_trace_handler; activities). None before torch 1.9."""
        module = getattr(torch, 'profiler', None)
        if not hasattr(getattr(module, 'profile', None), 'start'):
            return None
        return module, [module.ProfilerActivity.CPU]

    def pinning(self) -> Dict[str, Any]:
        """-> options of DataLoader for page-locked batches; {} where they gain nothing."""
        return {}

    def prefetch(self, batches: Iterable[Any], transform: Callable) -> Iterator[Any]:
        """Yields transform(batch) of each batch. A card transforms the next batch while the current one is used."""
        for batch in batches:
            yield transform(batch)


def about_cpu(word: str, path: str = '/proc/cpuinfo') -> str:
    """-> what Linux says of the first CPU under this word, such as flags; '' where it says nothing."""
    try:
        with open(path) as f:
            return next(line.split(':', 1)[1].strip() for line in f if line.startswith(word))
    except (OSError, StopIteration):
        return ''


class Card(Accelerator):
    """What NPU and CUDA cards share: `module` is torch.npu or torch.cuda, which have the same functions."""

    autocast_dtype = torch.float16
    mixes, channels_last, launches_cost = True, False, True
    called, visible = '', ''  # what a card is called, and the variable that chooses cards

    def __init__(self, index: int = 0):
        super().__init__(index)
        self.module = self.load()
        count = self.module.device_count()
        if index >= count:
            raise UserError(
                f'there is no {self.called} {index}: this host shows {count}; choose another with --device-id or '
                f'{self.visible}, or start fewer processes with --nproc_per_node'
            )
        try:
            self.module.set_device(f'{self.kind}:{index}')  # before the first tensor and before the process group
        except RuntimeError as e:
            told = self.failure(e) or str(e).strip().split('\n')[0]
            raise UserError(f'{self.called} {index} cannot be used: {told}') from e
        self.device = torch.device(self.kind, index)
        self.ddp_devices = [index]

    @staticmethod
    def load() -> Any:
        raise NotImplementedError

    @classmethod
    def count(cls) -> int:
        return cls.load().device_count()

    @property
    def name(self) -> str:
        known = hasattr(self.module, 'get_device_name')
        return self.module.get_device_name(self.index) if known else f'{self.called} {self.index}'

    def set_up(self) -> None:
        """Nothing to do."""

    def synchronize(self) -> None:
        self.module.synchronize()

    def mark(self) -> Any:
        event = self.module.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start: Any, end: Any) -> float:
        return start.elapsed_time(end) / 1000

    def reset_peak_memory(self) -> None:
        if hasattr(self.module, 'reset_peak_memory_stats'):
            self.module.reset_peak_memory_stats()

    def peak_memory(self) -> int:
        return self.module.max_memory_allocated()

    def adapt(self, model: torch.nn.Module) -> None:
        """Of a card, npu_patch.py says what is exchanged."""

    def seed(self, number: int) -> None:
        super().seed(number)
        self.module.manual_seed(number)

    def upload(self, tensor: torch.Tensor) -> torch.Tensor:
        """-> a tensor of the host on the card, without waiting where pages can be locked."""
        options = self.pinning()
        if options:
            named = options.get('pin_memory_device')
            tensor = tensor.pin_memory(named) if named else tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def prefetch(self, batches: Iterable[Any], transform: Callable) -> Iterator[Any]:
        """Transforms the next batch on a side stream while the current one is used.

        record_stream keeps a batch's memory from being given out on the side stream while the main one still reads it.
        """
        module, side, ready = self.module, self.module.Stream(), None
        for batch in batches:
            with module.stream(side):
                upcoming = transform(batch)
            if ready is not None:
                yield ready
            module.current_stream().wait_stream(side)
            for tensor in upcoming:
                tensor.record_stream(module.current_stream())
            ready = upcoming
        if ready is not None:
            yield ready


class Cuda(Card):
    kind, backend = 'cuda', 'nccl'
    called, visible = 'CUDA device', 'CUDA_VISIBLE_DEVICES'

    def __init__(self, index: int = 0):
        super().__init__(index)
        torch.backends.cudnn.benchmark = True
        if self.module.get_device_capability(index) >= (8, 0) and hasattr(torch, 'autocast'):
            # On an H100 no model's step is slower so than in float16 and NCHW, and a ConvMixer's takes two fifths of the time; no step
            # is lost to an overflow.
            self.autocast_dtype, self.channels_last = torch.bfloat16, True

    @staticmethod
    def load() -> Any:
        return torch.cuda

    @classmethod
    def missing(cls) -> str:
        return '' if torch.cuda.is_available() else f'torch {torch.__version__} sees no CUDA device'

    def autocast(self, dtype: torch.dtype) -> Optional[Callable[[], Any]]:
        if not hasattr(torch, 'autocast') and hasattr(torch.cuda.amp, 'autocast') and dtype == torch.float16:
            return torch.cuda.amp.autocast  # torch 1.6 to 1.9
        return super().autocast(dtype)

    def grad_scaler(self, **options: Any) -> Any:
        if hasattr(torch, 'amp') and hasattr(torch.amp, 'GradScaler'):
            return torch.amp.GradScaler('cuda', **options)
        return torch.cuda.amp.GradScaler(**options)

    def short_float32(self, on: Optional[bool]) -> None:
        if on is not None:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on

    def profiler(self) -> Optional[Tuple[Any, List[Any]]]:
        module, activities = super().profiler() or (None, None)
        return module and (module, activities + [module.ProfilerActivity.CUDA])

    def pinning(self) -> Dict[str, Any]:
        return {'pin_memory': True}

    def failure(self, error: BaseException) -> str:
        text = str(error).strip().split('\n')[0][:300]
        failed = re.search('CUDA error|cuDNN error|CUBLAS_STATUS|CUFFT|cusolver error', text)
        if not failed or 'out of memory' in text or 'ALLOC_FAILED' in text:
            return ''
        return f'{text}; `nvidia-smi` shows the cards, --device-id chooses another one'


class Npu(Card):
    kind, backend = 'npu', 'hccl'
    called, visible = 'NPU', 'ASCEND_RT_VISIBLE_DEVICES'
    packages = Accelerator.packages + ('torch_npu',)
    patched = True

    def __init__(self, index: int = 0):
        super().__init__(index)
        self.npu = npu = import_npu()
        if compat.TORCH >= (2, 1):
            npu.set_compile_mode(jit_compile=False)  # precompiled kernels: no compilation at each new shape
            npu.config.allow_internal_format = False  # private formats would bring the compilation back
            npu_kernels.register()

    @staticmethod
    def load() -> Any:
        return import_npu()

    @classmethod
    def missing(cls) -> str:
        try:
            npu = import_npu()
        except UserError as e:
            return str(e)
        return '' if npu.is_available() else 'torch_npu is installed but sees no NPU (npu-smi info lists the cards)'

    def autocast(self, dtype: torch.dtype) -> Optional[Callable[[], Any]]:
        amp = getattr(self.npu, 'amp', None)
        if dtype == torch.bfloat16 and not (hasattr(self.npu, 'is_bf16_supported') and self.npu.is_bf16_supported()):
            return None
        if not hasattr(amp, 'autocast'):
            return super().autocast(dtype)
        if 'dtype' in inspect.signature(amp.autocast.__init__).parameters:
            return lambda: amp.autocast(dtype=dtype)
        return amp.autocast  # torch_npu 1.8: float16 only

    def grad_scaler(self, **options: Any) -> Any:
        """torch's waits for the card once in a step, torch_npu's three times; but that one knows chips without inf and nan."""
        amp = getattr(self.npu, 'amp', None)
        if hasattr(torch, 'amp') and hasattr(torch.amp, 'GradScaler') and self.npu.utils.is_support_inf_nan():
            return torch.amp.GradScaler('npu', **options)
        if hasattr(amp, 'GradScaler'):
            return amp.GradScaler(**options)
        raise UserError('this torch for Ascend has no GradScaler: use --amp-impl apex, or --no-amp')

    def short_float32(self, on: Optional[bool]) -> None:
        if on is not None and not hasattr(self.npu, 'matmul'):
            raise UserError('--hf32: this torch_npu cannot switch HF32 (2.1 and newer can); leave it out')
        if on is not None:
            self.npu.matmul.allow_hf32 = self.npu.conv.allow_hf32 = on

    def fused_optimizer(self, optimizer: Any) -> Any:
        """torch_npu.optim's: for float32 and float16 parameters that all get a gradient in the first step."""
        kind, fused = type(optimizer).__name__, None
        if compat.TORCH >= (2, 1):
            import torch_npu

            fused = getattr(torch_npu.optim, 'NpuFused' + kind, None)
        if fused is None:
            raise UserError(f'--fused-optimizer: there is no torch_npu.optim.NpuFused{kind} here; leave it out')
        return like(optimizer, fused)

    def faster_optimizer(self, optimizer: Any) -> Any:
        return optimizer  # NpuFused* demands that all parameters get a gradient, and may be asked for

    def failure(self, error: BaseException) -> str:
        """CANN has a number and a text for it. torch_npu tells them at the next synchronisation where an operator was queued."""
        code, words = cann_error(str(error))
        if not words and (code or 'Inner error is reported as above' in str(error)):
            try:
                self.module.synchronize()
            except RuntimeError as e:
                code, words = cann_error(str(e))
        way_out = '`npu-smi info` shows the cards, --device-id chooses another one'
        return f'CANN error {code} ({words[:300]}); {way_out}' if code else ''

    def attention(self) -> Tuple[Optional[Callable], str]:
        """For each dtype the first kernel that works forward and backward on this chip, found by trying."""
        kernels, dtypes = {}, (torch.float16, torch.bfloat16, torch.float32)
        for dtype in dtypes:
            kernels[dtype] = next((k for k in ATTENTION if self.works(k, dtype)), written_out_attention)

        def attend(q, k, v, scale, dropout=0.0):
            return kernels[q.dtype](q, k, v, scale, dropout)

        said = {name: [str(dtype)[6:] for dtype in dtypes if kernels[dtype] is k] for k, name in ATTENTION.items()}
        return attend, '; '.join(f'{name} ({", ".join(found)})' for name, found in said.items() if found)

    def works(self, kernel: Callable, dtype: torch.dtype) -> bool:
        try:
            q, k, v = torch.ones(3, 1, 2, 16, 32, device=self.device, dtype=dtype).requires_grad_().unbind(0)
            kernel(q, k, v, 0.25, 0.0).sum().backward()
            self.synchronize()
        except (RuntimeError, AttributeError, ImportError, TypeError):
            return False
        return True

    def fast_gelu(self) -> Optional[Callable]:
        """-> torch_npu's GELU by a sigmoid: faster, and other numbers than GELU's. None before torch_npu 2.1."""
        if compat.TORCH < (2, 1):
            return None
        import torch_npu

        return torch_npu.fast_gelu

    def profiler(self) -> Optional[Tuple[Any, List[Any]]]:
        if compat.TORCH < (2, 1):
            return None
        from torch_npu import profiler

        return profiler, [profiler.ProfilerActivity.CPU, profiler.ProfilerActivity.NPU]

    def pinning(self) -> Dict[str, Any]:
        if hasattr(torch, 'accelerator'):  # torch >= 2.6 pins for the device that there is
            return {'pin_memory': True}
        return {'pin_memory': True, 'pin_memory_device': 'npu'} if compat.TORCH >= (2, 1) else {}


def cann_error(text: str) -> Tuple[str, str]:
    """-> (CANN's number for an error, its words for it) out of torch_npu's text; '' where they are not there."""
    code = re.search(r'error code(?: is|:) ?(\d+)', text)
    if code is None:
        return '', ''
    words = re.sub(r'\s+', ' ', text[code.end() :].replace('[Error]:', ' '))
    noise = r'\[ERROR\] \S+ \(PID.*?\) ERR\d+ PTA call acl api failed\.? ?|\(function \w+\)|Rectify the fault.*?log\.'
    return code.group(1), re.sub(noise, '', words).strip()


def like(optimizer: Any, kind: Type, **more: Any) -> Any:
    """-> an optimizer of class `kind` with the groups, rates and defaults of another one, as far as it has them."""
    known = set(inspect.signature(kind.__init__).parameters) - {'fused', 'foreach'}
    groups = [{k: v for k, v in group.items() if k not in ('fused', 'foreach')} for group in optimizer.param_groups]
    return kind(groups, **{**{k: v for k, v in optimizer.defaults.items() if k in known}, **more})


def sdpa(q, k, v, scale, dropout=0.0):
    """torch's scaled_dot_product_attention; it scales by 1 / sqrt(channels), the rest of another scale goes into q."""
    natural = q.shape[-1] ** -0.5
    return F.scaled_dot_product_attention(q if scale == natural else q * (scale / natural), k, v, dropout_p=dropout)


def fusion_attention(q, k, v, scale, dropout=0.0):
    """torch_npu's flash attention; (B, heads, N, channels) is the layout that it calls BNSD."""
    import torch_npu

    return torch_npu.npu_fusion_attention(
        q, k, v, head_num=q.shape[1], input_layout='BNSD', scale=scale, keep_prob=1.0 - dropout
    )[0]


def written_out_attention(q, k, v, scale, dropout=0.0):
    """The same in five kernels: a 910A has no fused one, and not even all that torch's own makes of it."""
    return F.dropout(((q * scale) @ k.transpose(-2, -1)).softmax(-1), dropout) @ v


ATTENTION = {
    fusion_attention: 'npu_fusion_attention',
    sdpa: 'scaled_dot_product_attention',
    written_out_attention: 'an explicit softmax',
}


def import_npu() -> Any:
    """-> torch.npu, from torch_npu or built into the vendor's torch 1.5. Raises UserError where it cannot be loaded."""
    problem = npu_problem()
    if problem:
        raise UserError(problem)
    return torch.npu


@functools.lru_cache(None)  # an import that failed leaves torch changed in part, and is not tried again
def npu_problem() -> str:
    """Imports torch_npu. -> '' where that gives torch.npu, otherwise why not and the way out."""
    if hasattr(torch, 'npu'):
        return ''
    if importlib.util.find_spec('torch_npu') is None:
        return NO_TORCH_NPU
    if compat.TORCH >= (2, 10) and torch.version.cuda:
        # both would register the same allocator options, and C++ ends the process: no exception could be caught
        return (
            f'torch_npu would abort beside torch {torch.__version__}, which is built for CUDA {torch.version.cuda}; install '
            "the CPU build of torch, which npu_requirements.txt names (PyPI's torch is the CUDA build)"
        )
    try:
        import torch_npu  # noqa: F401  (registers torch.npu)
    except ModuleNotFoundError as e:
        return f'torch_npu does not load without the package {e.name}: pip install -r npu_requirements.txt'
    except Exception as e:  # torch_npu raises plain Exception for parts of CANN that are missing
        reason = re.split(r'\. Please |\n', str(e).strip())[0]
        return f'torch_npu does not load ({reason}): run `source set_env.sh` of a complete CANN installation'
    return ''


def import_apex() -> Any:
    """-> apex.amp (Ascend's or NVIDIA's). Raises UserError where it cannot be imported."""
    try:
        from apex import amp
    except ImportError as e:
        raise UserError(
            f'--amp-impl apex needs apex, which cannot be imported ({e}): build it from gitee.com/ascend/apex or '
            'github.com/NVIDIA/apex (the package called apex on PyPI is another thing)'
        ) from e
    return amp


def can_fork() -> bool:
    """Whether this process can be forked into ranks: no driver of a card is loaded, whose state a child cannot use."""
    try:
        with open('/proc/self/maps') as f:
            return not any(library in line for line in f for library in ('libcuda.so', 'libascendcl.so'))
    except OSError:
        return False


KINDS = {cls.kind: cls for cls in (Npu, Cuda, Accelerator)}


def find(wanted: str) -> Tuple[Type[Accelerator], Optional[int], List[str]]:
    """-> (class, number of the card or None, why auto passed over an NPU) for --device, as options.py has let it
    through. Raises UserError where there is no such device."""
    kind, _, card = wanted.partition(':')
    kind = {'gpu': 'cuda'}.get(kind, kind)
    if kind == 'auto':
        lacking = {cls: cls.missing() for cls in KINDS.values()}
        notes = [] if lacking[Npu] in ('', NO_TORCH_NPU) else [f'No NPU is used: {lacking[Npu]}.']
        return next(cls for cls, reason in lacking.items() if not reason), None, notes
    reason = KINDS[kind].missing()
    if reason:
        raise UserError(f'--device {wanted}: {reason}; choose another --device (auto takes the best one there is)')
    return KINDS[kind], int(card) if card else None, []


def choose(wanted: str, index: int = 0) -> Accelerator:
    """-> the Accelerator that --device names, on card `index` unless it names one ('npu:3').

    'auto' is the first usable of npu, cuda and cpu; 'gpu' is cuda.
    """
    cls, card, notes = find(wanted)
    device = cls(index if card is None else card)
    device.notes = notes
    return device


def count(wanted: str) -> int:
    """-> how many devices of that kind this machine has."""
    return find(wanted)[0].count()
