"""npu | cuda | cpu behind one interface: the only file that names torch_npu, torch.cuda or apex.

A subclass overrides what its device does differently; the base class is the CPU. Nothing of another vendor is imported
before a device of that vendor is asked for.
"""
import resource
import time

import torch

from common import compat
from common.errors import UserError


class Accelerator:
    """The device of one rank. `kind` cpu | cuda | npu; `backend` the process group's; `index` which card."""

    kind, backend = 'cpu', 'gloo'
    pin_memory = False
    autocast_dtype = torch.bfloat16      # what AMP uses unless told: the CPU has no fast float16

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

    def prefetch(self, batches, stage):
        """Yields stage(batch) of each batch; an accelerator prepares the next one while the current one is used."""
        for batch in batches:
            yield stage(batch)


class Cuda(Accelerator):
    kind, backend = 'cuda', 'nccl'
    pin_memory = True
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

    def grad_scaler(self, **options):
        if hasattr(torch, 'amp') and hasattr(torch.amp, 'GradScaler'):
            return torch.amp.GradScaler('cuda', **options)
        return torch.cuda.amp.GradScaler(**options)

    def prefetch(self, batches, stage):
        return overlapped(torch.cuda, batches, stage)


class Npu(Accelerator):
    kind, backend = 'npu', 'hccl'
    pin_memory = False                   # torch < 2.1 pins for CUDA only
    autocast_dtype = torch.float16

    def __init__(self, index=0):
        super().__init__(index)
        self.npu = import_npu()
        if index >= self.npu.device_count():
            raise UserError('there is no NPU %d: this host shows %d; choose another with --device-id or '
                            'ASCEND_RT_VISIBLE_DEVICES, or start fewer processes with --nproc_per_node'
                            % (index, self.npu.device_count()))
        self.npu.set_device('npu:%d' % index)   # before the first tensor and before hccl
        self.device = torch.device('npu', index)
        if hasattr(self.npu, 'set_compile_mode'):
            self.npu.set_compile_mode(jit_compile=False)   # precompiled kernels: no compilation at each new shape

    @classmethod
    def missing(cls):
        try:
            npu = import_npu()
        except UserError as e:
            return str(e)
        return '' if npu.is_available() else 'torch_npu is installed but sees no NPU (npu-smi info lists the cards)'

    @classmethod
    def count(cls):
        return import_npu().device_count()

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

    def grad_scaler(self, **options):
        amp = getattr(self.npu, 'amp', None)
        if amp is not None and hasattr(amp, 'GradScaler'):
            return amp.GradScaler(**options)
        raise UserError('this torch for Ascend has no GradScaler: use --amp-impl apex, or --no-amp')

    def prefetch(self, batches, stage):
        return overlapped(self.npu, batches, stage)


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
